// The magnifier: what is below the pointer, enlarged from the image's own pixels.

import type { Camera } from "./camera";
import { element } from "./html";

const SIZE = 320;
const FACTOR = 2.5;

/** Follows the pointer while its button is down and the magnifier is chosen. */
export function addLens(screen: HTMLElement, camera: Camera, picture: () => HTMLCanvasElement | undefined): void {
  const lens = element("canvas", "lens");
  [lens.width, lens.height] = [SIZE, SIZE];
  let whole: HTMLCanvasElement | undefined;

  function draw(event: PointerEvent): void {
    if (!whole) return;
    const box = screen.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const { from, alongRow, alongColumn } = camera.axes();
    const factor = Math.max(FACTOR, 1 / camera.scale); // at least a pixel of the screen for each of the image
    const place = [from[0] - x, from[1] - y].map((part) => part * factor + SIZE / 2);
    const context = lens.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, SIZE, SIZE);
    const [a, b, c, d] = [...alongRow, ...alongColumn].map((part) => part * factor);
    context.setTransform(a, b, c, d, place[0], place[1]);
    context.drawImage(whole, 0, 0);
    lens.style.left = `${x - SIZE / 2}px`;
    lens.style.top = `${y - SIZE / 2}px`;
  }

  screen.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !screen.closest('[data-tool="magnify"]')) return;
    whole = picture();
    screen.parentElement!.append(lens);
    draw(event);
  });
  screen.addEventListener("pointermove", draw);
  for (const end of ["pointerup", "pointercancel", "pointerleave"] as const) {
    screen.addEventListener(end, () => {
      whole = undefined;
      lens.remove();
    });
  }
}
