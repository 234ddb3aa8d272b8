// The key of each command.

import type { Command } from "./strings";

export const KEYS: Record<Command, string> = {
  window: "w",
  region: "e",
  zoom: "z",
  pan: "p",
  scroll: "s",
  length: "l",
  angle: "a",
  magnify: "m",
  fit: "f",
  actual: "1",
  invert: "i",
  rotateLeft: "[",
  rotateRight: "]",
  flipHorizontal: "h",
  flipVertical: "v",
  reset: "r",
  clear: "Delete",
  cine: "c",
  next: "ArrowDown",
  previous: "ArrowUp",
  key: "k",
  store: "t",
  layout: "2",
  print: "o",
  jpeg: "j",
  png: "n",
  dicom: "d",
  help: "?",
};

const SHOWN: Record<string, string> = { ArrowDown: "↓", ArrowUp: "↑", Delete: "Del" };

export function keyName(command: Command): string {
  return SHOWN[KEYS[command]] ?? KEYS[command].toUpperCase();
}

/** Returns the command of a key; keys with Ctrl, Alt or Meta are the browser's. */
export function commandOf(event: KeyboardEvent): Command | undefined {
  if (event.ctrlKey || event.altKey || event.metaKey) return undefined;
  if (event.target instanceof HTMLSelectElement || event.target instanceof HTMLInputElement) return undefined;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return (Object.keys(KEYS) as Command[]).find((command) => KEYS[command] === key);
}
