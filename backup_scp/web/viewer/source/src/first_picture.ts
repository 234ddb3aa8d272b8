// What is shown until the viewport is ready: a small picture from the node at once, then the image itself.

import { element } from "./html";
import { paintSmall } from "./paint";
import { prepareEarly } from "./prepare";
import { STRINGS } from "./strings";
import type { Source } from "./study";

/** Returns the small picture that the node keeps of an image; the one that is in the page already, if there is one. */
export function previewOf({ url, frame, frames }: Source): HTMLElement {
  const address = `${url}${frames > 1 ? `/frames/${frame}` : ""}/thumbnail`;
  const there = Array.from(document.images).find((each) => each.src === address && each.parentElement?.matches(".preview"));
  const picture = there ?? element("img");
  picture.alt = STRINGS.preview;
  picture.onerror = () => picture.remove();
  if (there) return there.parentElement!;
  picture.src = address;
  const made = element("div", "preview");
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
