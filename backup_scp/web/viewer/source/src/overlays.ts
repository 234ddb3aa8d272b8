// Overlay planes (PS3.3 C.9.2), those in the pixel words as well, and shutters (PS3.3 C.7.6.11, C.11.12).

import { type DataSet, bytes, number, numbers, texts } from "./dicom_json";
import type { Display } from "./display";
import type { Stored } from "./pixels";
import type { Presentation } from "./presentation";

/** Something drawn over an image, in its pixels: the left edge of the first column is 0. */
export interface Overlay {
  draw(context: CanvasRenderingContext2D, rows: number, columns: number): void;
}

export async function readOverlays(
  image: DataSet,
  frame: number,
  words: Stored | undefined,
  display: Display,
  presentation: Presentation | undefined,
): Promise<Overlay[]> {
  const active = presentation?.overlayGroups;
  const planes = await Promise.all(overlayGroups(image).map((group) => plane(image, group, frame, words, display)));
  const own = planes.filter((each, at) => each && (!active || active.has(overlayGroups(image)[at]))) as Overlay[];
  const shutter = presentation ? presentation.shutter : shutterOf(image, undefined);
  return [...(shutter ? [shutter] : []), ...own, ...(presentation?.overlays ?? [])];
}

export function overlayGroups(dataSet: DataSet): string[] {
  return Object.keys(dataSet)
    .filter((tag) => /^60[01][02468ACE]0010$/.test(tag))
    .map((tag) => tag.slice(0, 4));
}

/** Returns one overlay plane of an image or Presentation State. */
export async function plane(
  dataSet: DataSet,
  group: string,
  frame: number,
  words: Stored | undefined,
  display: Display,
): Promise<Overlay | undefined> {
  const value = (element: string) => number(dataSet, group + element);
  const rows = value("0010") ?? 0;
  const columns = value("0011") ?? 0;
  const [top, left] = numbers(dataSet, `${group}0050`);
  const at = frame - (value("0051") ?? 1);
  const frames = value("0015") ?? (dataSet[`${group}0051`] ? 1 : Infinity);
  if (!(rows > 0 && columns > 0) || at < 0 || at >= frames) return undefined;
  const isEmbedded = (value("0100") ?? 1) !== 1;
  const content = isEmbedded ? undefined : await bytes(dataSet[`${group}3000`]);
  const bit = value("0102") ?? 0;
  const count = rows * columns;
  const from = Number.isFinite(frames) && frames > 1 ? at * count : 0;
  let isSet: (index: number) => boolean;
  if (content) isSet = (index) => ((content[(from + index) >> 3] >> ((from + index) & 7)) & 1) === 1;
  else if (isEmbedded && words && count <= display.rows * display.columns) isSet = (index) => ((words[index] >> bit) & 1) === 1;
  else return undefined;
  const canvas = maskCanvas(rows, columns, isSet);
  return { draw: (context) => context.drawImage(canvas, (left ?? 1) - 1, (top ?? 1) - 1) };
}

function maskCanvas(rows: number, columns: number, isSet: (index: number) => boolean): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [columns, rows];
  const picture = new ImageData(columns, rows);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let at = 0; at < pixels.length; at++) if (isSet(at)) pixels[at] = 0xffffffff;
  canvas.getContext("2d")!.putImageData(picture, 0, 0);
  return canvas;
}

/** Returns the shutters: what is outside of any of them is not shown. */
export function shutterOf(dataSet: DataSet, bitmap: Overlay | undefined): Overlay | undefined {
  const shapes = texts(dataSet, "00181600");
  const value = (tag: string) => number(dataSet, tag) ?? 0;
  const grey = Math.round(((number(dataSet, "00181622") ?? 0) / 65535) * 255);
  const outside: ((path: Path2D) => void)[] = [];
  if (shapes.includes("RECTANGULAR")) {
    const [left, right, top, bottom] = ["00181602", "00181604", "00181606", "00181608"].map(value);
    outside.push((path) => path.rect(left - 1, top - 1, right - left + 1, bottom - top + 1));
  }
  if (shapes.includes("CIRCULAR")) {
    const [row, column] = numbers(dataSet, "00181610");
    outside.push((path) => path.arc(column - 0.5, row - 0.5, value("00181612"), 0, 2 * Math.PI));
  }
  if (shapes.includes("POLYGONAL")) {
    const vertices = numbers(dataSet, "00181620");
    outside.push((path) => {
      for (let at = 0; at + 1 < vertices.length; at += 2) path.lineTo(vertices[at + 1] - 0.5, vertices[at] - 0.5);
      path.closePath();
    });
  }
  if (!outside.length && !bitmap) return undefined;
  return {
    draw(context, rows, columns) {
      context.fillStyle = `rgb(${grey} ${grey} ${grey})`;
      for (const add of outside) {
        const path = new Path2D();
        add(path);
        path.rect(-1, -1, columns + 2, rows + 2);
        context.fill(path, "evenodd");
      }
      bitmap?.draw(context, rows, columns);
    },
  };
}
