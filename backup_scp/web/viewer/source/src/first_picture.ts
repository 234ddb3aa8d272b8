// What is shown until the viewport is ready: a small picture from the node at once, then the image itself.

import { element } from "./html";
import { paintSmall } from "./paint";
import { prepareEarly } from "./prepare";
import { STRINGS } from "./strings";
import type { Source } from "./study";

// A small picture takes the node a tenth of the time of one that fills the screen.
const PREVIEW = 256;

export function previewOf({ url, frame, frames }: Source): HTMLElement {
  const made = element("div", "preview");
  const picture = element("img");
  picture.alt = STRINGS.preview;
  picture.src = `${url}${frames > 1 ? `/frames/${frame}` : ""}/rendered?viewport=${PREVIEW},${PREVIEW}`;
  picture.onerror = () => picture.remove();
  made.append(picture);
  return made;
}

/** Puts a preview into a place, and the image over it as soon as its pixels are there. */
export async function showFirst(place: HTMLElement, source: Source): Promise<void> {
  const image = await prepareEarly(source);
  const canvas = paintSmall(image, place.clientWidth, place.clientHeight);
  canvas.className = "quick";
  place.replaceChildren(canvas);
}
