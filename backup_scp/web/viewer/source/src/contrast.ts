// What the list of contrasts offers.

import type { Window } from "./display";
import { element } from "./html";
import type { Look } from "./prepare";
import { STRINGS } from "./strings";

const CT: [keyof typeof STRINGS.presets, number, number][] = [
  ["soft", 40, 400],
  ["lung", -600, 1500],
  ["bone", 400, 1800],
  ["brain", 40, 80],
];

export const PRESETS: Pick<Window, "name" | "center" | "width" | "shape">[] = CT.map(([name, center, width]) => ({
  name: STRINGS.presets[name],
  center,
  width,
  shape: "LINEAR",
}));

export function contrastOptions(looks: Look[], chosen: number, modality: string): HTMLOptionElement[] {
  const own = looks.map((look, at) => option(`look ${at}`, nameOf(look, at), at === chosen));
  const presets = modality === "CT" ? PRESETS.map(({ name }, at) => option(`preset ${at}`, name, false)) : [];
  return [...own, ...presets];
}

function nameOf(look: Look, at: number): string {
  if (at === 0) return STRINGS.contrastDefault;
  if (look.presentation) return STRINGS.presentation(look.name);
  return look.name || STRINGS.contrastNumber(at);
}

function option(value: string, words: string, isChosen: boolean): HTMLOptionElement {
  const made = element("option", "", words);
  made.value = value;
  made.selected = isChosen;
  return made;
}
