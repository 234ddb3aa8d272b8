// Paints an image in its own size, for print and export: as the screen shows it, without tools' lines.

import type { Pixels } from "./pixels";
import type { Loaded } from "./prepare";

export interface Ramp {
  lower: number;
  upper: number;
  inverse: boolean;
}

export interface Turn {
  rotation: number;
  flipHorizontal: boolean;
  flipVertical: boolean;
}

export function paint(image: Loaded, ramp: Ramp, turn: Turn): HTMLCanvasElement {
  const { rows, columns } = image.display;
  const upright = image.shown.isBaked && image.shown.values.length === 3 * rows * columns
    ? colour(image, rows, columns, ramp.inverse)
    : grey(image, rows, columns, ramp);
  const context = upright.getContext("2d")!;
  for (const overlay of image.overlays) overlay.draw(context, rows, columns);
  return turned(upright, turn);
}

function colour(image: Loaded, rows: number, columns: number, isInverse: boolean): HTMLCanvasElement {
  const { values } = image.shown;
  return colourCanvas(isInverse ? values.map((value) => 255 - value) : values, rows, columns);
}

function grey({ shown }: Loaded, rows: number, columns: number, { lower, upper, inverse }: Ramp): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const picture = new ImageData(columns, rows);
  const scale = 255 / (upper - lower);
  const { values } = shown;
  for (let at = 0; at < values.length; at++) {
    const level = (values[at] - lower) * scale; // ImageData clamps and rounds
    const pixel = 4 * at;
    picture.data[pixel] = picture.data[pixel + 1] = picture.data[pixel + 2] = inverse ? 255 - level : level;
    picture.data[pixel + 3] = 255;
  }
  canvas.getContext("2d")!.putImageData(picture, 0, 0);
  return canvas;
}

function turned(upright: HTMLCanvasElement, { rotation, flipHorizontal, flipVertical }: Turn): HTMLCanvasElement {
  if (!rotation && !flipHorizontal && !flipVertical) return upright;
  const isSideways = rotation % 180 !== 0;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = isSideways ? [upright.height, upright.width] : [upright.width, upright.height];
  const context = canvas.getContext("2d")!;
  context.translate(canvas.width / 2, canvas.height / 2);
  context.rotate((rotation * Math.PI) / 180);
  context.scale(flipHorizontal ? -1 : 1, flipVertical ? -1 : 1);
  context.drawImage(upright, -upright.width / 2, -upright.height / 2);
  return canvas;
}

export function colourCanvas(values: Pixels, rows: number, columns: number): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const picture = new ImageData(columns, rows);
  for (let from = 0, to = 0; from < values.length; from += 3, to += 4) {
    picture.data[to] = values[from];
    picture.data[to + 1] = values[from + 1];
    picture.data[to + 2] = values[from + 2];
    picture.data[to + 3] = 255;
  }
  canvas.getContext("2d")!.putImageData(picture, 0, 0);
  return canvas;
}

/** Paints an image as large as it fits, each pixel the mean of those that it covers: the first picture. */
export function paintSmall({ display, shown, overlays }: Loaded, width: number, height: number): HTMLCanvasElement {
  const { rows, columns, samples, palette } = display;
  const scale = Math.min(1, width / columns, height / rows);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [Math.max(1, Math.round(columns * scale)), Math.max(1, Math.round(rows * scale))];
  const components = samples > 1 || palette ? 3 : 1;
  const picture = new ImageData(canvas.width, canvas.height);
  const ends = (size: number, count: number) =>
    Array.from({ length: count + 1 }, (_, at) => Math.floor((at * size) / count));
  const [tops, lefts] = [ends(rows, canvas.height), ends(columns, canvas.width)];
  const factor = 255 / (shown.upper - shown.lower);
  for (let y = 0, pixel = 0; y < canvas.height; y++) {
    for (let x = 0; x < canvas.width; x++, pixel += 4) {
      for (let part = 0; part < components; part++) {
        const mean = meanOf(shown.values, tops[y], tops[y + 1], lefts[x], lefts[x + 1], columns, components, part);
        const level = (mean - shown.lower) * factor;
        picture.data[pixel + part] = shown.inverse ? 255 - level : level;
      }
      if (components === 1) picture.data[pixel + 1] = picture.data[pixel + 2] = picture.data[pixel];
      picture.data[pixel + 3] = 255;
    }
  }
  const context = canvas.getContext("2d")!;
  context.putImageData(picture, 0, 0);
  context.scale(canvas.width / columns, canvas.height / rows);
  for (const overlay of overlays) overlay.draw(context, rows, columns);
  return canvas;
}

function meanOf(
  values: Pixels,
  top: number,
  bottom: number,
  left: number,
  right: number,
  columns: number,
  components: number,
  part: number,
): number {
  let sum = 0;
  for (let y = top; y < bottom; y++) {
    for (let at = (y * columns + left) * components + part, end = (y * columns + right) * components; at < end; at += components) {
      sum += values[at];
    }
  }
  return sum / ((bottom - top) * (right - left));
}
