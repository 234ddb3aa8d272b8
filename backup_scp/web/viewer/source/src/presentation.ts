// Grayscale Softcopy Presentation States (PS3.3 A.33.1, PS3.4 Annex N).

import { type DataSet, items, number, numbers, text } from "./dicom_json";
import { type Contrast, type Display, firstTable, readContrasts } from "./display";
import { type Overlay, overlayGroups, plane, shutterOf } from "./overlays";
import type { Source } from "./study";

export interface Area {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export interface Presentation {
  name: string;
  contrast: Contrast | undefined;
  display: Partial<Display>;
  rotation: number;
  flip: boolean;
  area: Area | undefined;
  shutter: Overlay | undefined;
  /** The image's own overlay planes that are shown. */
  overlayGroups: Set<string>;
  overlays: Overlay[];
}

const FONT_PX = 14;

/** Returns the Presentation States of the study that are for this frame. */
export async function readPresentations({ dataSet, frame, study }: Source): Promise<Presentation[]> {
  const instance = text(dataSet, "00080018");
  const own = study.presentations.filter((each) =>
    items(each, "00081115").some((series) => isFor(series, instance, frame, true)),
  );
  return Promise.all(own.map((each) => read(each, dataSet, instance, frame)));
}

/** Tells whether an item refers to a frame of an image; one that refers to none is for all. */
function isFor(item: DataSet, instance: string, frame: number, mustRefer = false): boolean {
  const referred = items(item, "00081140");
  if (!referred.length) return !mustRefer;
  return referred.some((each) => {
    const frames = numbers(each, "00081160");
    return text(each, "00081155") === instance && (!frames.length || frames.includes(frame));
  });
}

async function read(state: DataSet, image: DataSet, instance: string, frame: number): Promise<Presentation> {
  const rows = number(image, "00280010") ?? 0;
  const columns = number(image, "00280011") ?? 0;
  const signed = number(image, "00280103") === 1;
  const own = (tag: string) => items(state, tag).find((item) => isFor(item, instance, frame));
  const area = areaOf(own("0070005A"), rows, columns);
  const voi = own("00283110");
  const display = { rows, columns } as Display;
  const shutterGroup = (number(state, "00181623") ?? 0).toString(16).padStart(4, "0").toUpperCase();
  const planes = new Map<string, Overlay>();
  for (const group of overlayGroups(state)) {
    const overlay = await plane(state, group, frame, undefined, display);
    if (overlay) planes.set(group, overlay);
  }
  const annotations = items(state, "00700001").filter((item) => isFor(item, instance, frame));
  return {
    name: text(state, "00700080") || text(state, "00700081"),
    contrast: voi && (await readContrasts(voi, frame, signed))[0],
    display: {
      slope: number(state, "00281053") ?? 1,
      intercept: number(state, "00281052") ?? 0,
      modalityTable: await firstTable(state, "00283000", signed),
      inverse: text(state, "20500020") === "INVERSE",
      presentationTable: await firstTable(state, "20500010", false),
    },
    rotation: number(state, "00700042") ?? 0,
    flip: text(state, "00700041") === "Y",
    area,
    shutter: shutterOf(state, planes.get(shutterGroup)),
    overlayGroups: new Set(Object.keys(state).filter((tag) => /^60..1001$/.test(tag)).map((tag) => tag.slice(0, 4))),
    overlays: [
      ...[...planes].filter(([group]) => group !== shutterGroup).map(([, overlay]) => overlay),
      ...annotations.map((item) => annotation(item, area ?? { left: 0, top: 0, right: columns, bottom: rows })),
    ],
  };
}

function areaOf(item: DataSet | undefined, rows: number, columns: number): Area | undefined {
  if (!item || text(item, "00700100", "SCALE TO FIT") !== "SCALE TO FIT") return undefined;
  const [left, top] = numbers(item, "00700052");
  const [right, bottom] = numbers(item, "00700053");
  if (!(right >= left && bottom >= top) || (left === 1 && top === 1 && right === columns && bottom === rows)) return undefined;
  return { left: left - 1, top: top - 1, right, bottom };
}

/** Draws the graphics and texts of one layer (PS3.3 C.10.5). */
function annotation(item: DataSet, area: Area): Overlay {
  const place = (units: string) => (x: number, y: number) =>
    units === "DISPLAY"
      ? [area.left + x * (area.right - area.left), area.top + y * (area.bottom - area.top)]
      : [x, y];
  return {
    draw(context, _rows, columns) {
      context.strokeStyle = context.fillStyle = "#ffe14d";
      context.lineWidth = Math.max(1, columns / 600);
      for (const graphic of items(item, "00700009")) drawGraphic(context, graphic, place(text(graphic, "00700005")));
      context.font = `${Math.max(FONT_PX, columns / 50)}px sans-serif`;
      for (const words of items(item, "00700008")) drawText(context, words, place);
    },
  };
}

type Place = (x: number, y: number) => number[];

function drawGraphic(context: CanvasRenderingContext2D, graphic: DataSet, place: Place): void {
  const data = numbers(graphic, "00700022");
  const points = Array.from({ length: Math.floor(data.length / 2) }, (_, at) => place(data[2 * at], data[2 * at + 1]));
  if (!points.length) return;
  const path = new Path2D();
  const distance = (one: number, other: number) =>
    Math.hypot(points[one][0] - points[other][0], points[one][1] - points[other][1]);
  switch (text(graphic, "00700023")) {
    case "POINT":
      path.arc(points[0][0], points[0][1], 2 * context.lineWidth, 0, 2 * Math.PI);
      break;
    case "CIRCLE":
      path.arc(points[0][0], points[0][1], distance(0, 1), 0, 2 * Math.PI);
      break;
    case "ELLIPSE": {
      const middle = [(points[0][0] + points[1][0]) / 2, (points[0][1] + points[1][1]) / 2];
      const angle = Math.atan2(points[1][1] - points[0][1], points[1][0] - points[0][0]);
      path.ellipse(middle[0], middle[1], distance(0, 1) / 2, distance(2, 3) / 2, angle, 0, 2 * Math.PI);
      break;
    }
    default: // POLYLINE, and INTERPOLATED by straight lines
      for (const [x, y] of points) path.lineTo(x, y);
  }
  if (text(graphic, "00700024") === "Y") context.fill(path);
  context.stroke(path);
}

function drawText(context: CanvasRenderingContext2D, words: DataSet, place: (units: string) => Place): void {
  const box = numbers(words, "00700010");
  const anchor = numbers(words, "00700014");
  const [x, y] = box.length === 2 ? place(text(words, "00700003"))(box[0], box[1]) : place(text(words, "00700004"))(anchor[0], anchor[1]);
  const height = Number.parseFloat(context.font);
  text(words, "00700006")
    .split(/\r?\n/)
    .forEach((line, at) => context.fillText(line, x, y + (at + 1) * height));
}
