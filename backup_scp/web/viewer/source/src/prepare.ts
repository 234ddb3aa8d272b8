// Makes a frame ready to be shown, with a look (its contrast, or a Presentation State).

import { fetchFrame } from "./dicomweb";
import { type Contrast, type Display, readDisplay } from "./display";
import { type Overlay, readOverlays } from "./overlays";
import { type Shown, shownPixels } from "./pixels";
import { type Presentation, readPresentations } from "./presentation";
import { decodeColour, decodeGrey, isColour } from "./stored";
import { type Source, pixelTag } from "./study";

/** How an image can be looked at: as it says itself, by another of its contrasts, by a Presentation State. */
export interface Look {
  name: string;
  contrast?: Contrast;
  presentation?: Presentation;
}

export interface Loaded {
  source: Source;
  display: Display;
  looks: Look[];
  look: Look;
  shown: Shown;
  overlays: Overlay[];
}

const early = new Map<Source, Promise<Loaded>>();

/** Begins with an image before the viewport asks for it. */
export function prepareEarly(source: Source): Promise<Loaded> {
  const loading = prepare(source, 0);
  early.set(source, loading);
  return loading;
}

export function prepared(source: Source, look: number): Promise<Loaded> {
  const begun = look === 0 ? early.get(source) : undefined;
  early.delete(source);
  return begun ?? prepare(source, look);
}

async function prepare(source: Source, wanted: number): Promise<Loaded> {
  const { dataSet, url, frame } = source;
  const [stored, display, presentations] = await Promise.all([
    fetchFrame(url, frame),
    readDisplay(dataSet, frame),
    readPresentations(source),
  ]);
  const looks: Look[] = [
    { name: "", contrast: display.contrasts[0] },
    ...display.contrasts.map((contrast) => ({ name: contrast.name, contrast })),
    ...presentations.map((presentation) => ({ name: presentation.name, contrast: presentation.contrast, presentation })),
  ];
  const look = looks[wanted] ?? looks[0];
  if (isColour(display)) {
    const values = await decodeColour(stored, display);
    const overlays = await readOverlays(dataSet, frame, undefined, display, look.presentation);
    const shown = { values, min: 0, max: 255, slope: 1, intercept: 0, lower: 0, upper: 255, inverse: false, isBaked: true };
    return { source, display, looks, look, shown, overlays };
  }
  const { stored: pixels, words } = await decodeGrey(stored, display, pixelTag(dataSet) ?? "7FE00010");
  const overlays = await readOverlays(dataSet, frame, words, display, look.presentation);
  const presented = look.presentation ? { ...display, ...look.presentation.display } : display;
  return { source, display, looks, look, shown: shownPixels(pixels, presented, look.contrast), overlays };
}
