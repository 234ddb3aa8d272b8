// Paints an image in its own size, for print and export: as the screen shows it, without tools' lines.

import { type Loaded, colourCanvas } from "./loader";

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
