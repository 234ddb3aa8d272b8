// Turns stored pixels into those that cornerstone shows with one linear ramp, as PS3.4 N.2 describes it.
//
// cornerstone's own shaders and tables know linear windows.  What is not linear (a Modality LUT, a VOI LUT, SIGMOID, a
// Presentation LUT) is therefore applied here, once for each image, through a table with an entry for each stored value.

import type { Contrast, Display, Table, Window } from "./display";

export type Pixels = Uint8Array | Int8Array | Uint16Array | Int16Array;
export type Stored = Pixels | Int32Array | Uint32Array | Float32Array | Float64Array;

export interface Shown {
  values: Pixels;
  min: number;
  max: number;
  /** What a value means: `value * slope + intercept`, in the unit of the window. */
  slope: number;
  intercept: number;
  /** The ends of the ramp, as values: black at `lower`, white at `upper`, or the other way round when inverted. */
  lower: number;
  upper: number;
  inverse: boolean;
  /** Whether the contrast is in the values, so that a window in the image's unit no longer applies. */
  isBaked: boolean;
}

const WHITE = 65535;

export function shownPixels(stored: Stored, display: Display, contrast: Contrast | undefined): Shown {
  const isPadding = paddingTest(display);
  const [min, max] = extremes(stored, isPadding);
  if (!(stored instanceof Float32Array || stored instanceof Float64Array) && max - min < 1 << 16 && bits(stored) <= 16) {
    return ofIntegers(stored as Pixels, display, contrast, min, max, isPadding);
  }
  // Floating point and 32 bits: 65,536 steps from the smallest to the largest value.
  const step = (max - min) / WHITE || 1;
  const values = new Uint16Array(stored.length);
  for (let at = 0; at < stored.length; at++) values[at] = Math.min(WHITE, Math.max(0, (stored[at] - min) / step + 0.5));
  const scaled = { ...display, slope: display.slope * step, intercept: display.intercept + min * display.slope };
  return ofIntegers(values, { ...scaled, padding: undefined }, contrast, 0, WHITE, undefined);
}

function bits(stored: Stored): number {
  return 8 * stored.BYTES_PER_ELEMENT;
}

function ofIntegers(
  stored: Pixels,
  display: Display,
  contrast: Contrast | undefined,
  min: number,
  max: number,
  isPadding: ((value: number) => boolean) | undefined,
): Shown {
  const isLinear = contrast === undefined || (contrast.kind === "window" && contrast.shape !== "SIGMOID");
  let shown: Shown;
  if (isLinear && !display.presentationTable) {
    shown = display.modalityTable
      ? throughTable(stored, min, max, (value) => lookUp(display.modalityTable!, value), 1, 0)
      : { ...plain(stored, min, max), slope: display.slope, intercept: display.intercept };
    const [dark, light] = ramp(contrast as Window | undefined, shown);
    const ends = [dark, light].map((end) => (end - shown.intercept) / shown.slope);
    shown.inverse = display.inverse !== ends[0] > ends[1];
    [shown.lower, shown.upper] = [Math.min(...ends), Math.max(...ends)];
  } else {
    const modality = modalityOf(display);
    const [low, high] = [modality(min), modality(max)].sort((one, other) => one - other);
    const voi = voiOf(contrast, low, high);
    const presentation = presentationOf(display.presentationTable);
    const curve = (value: number) => Math.round(WHITE * presentation(voi(modality(value))));
    shown = throughTable(stored, min, max, curve, 1 / WHITE, 0);
    Object.assign(shown, { lower: 0, upper: WHITE, inverse: display.inverse, isBaked: true });
  }
  if (isPadding) blacken(shown, stored, isPadding);
  return shown;
}

function plain(values: Pixels, min: number, max: number): Shown {
  return { values, min, max, slope: 1, intercept: 0, lower: min, upper: max, inverse: false, isBaked: false };
}

function throughTable(
  stored: Pixels,
  min: number,
  max: number,
  curve: (value: number) => number,
  slope: number,
  intercept: number,
): Shown {
  const table = new Uint16Array(max - min + 1);
  for (let value = min; value <= max; value++) table[value - min] = curve(value);
  const values = new Uint16Array(stored.length);
  for (let at = 0; at < stored.length; at++) values[at] = table[stored[at] - min];
  const [lowest, highest] = extremes(table, undefined);
  return { ...plain(values, lowest, highest), slope, intercept };
}

/** Shows padding black (PS3.3 C.7.5.1.1.2), also in a window that is wider than the image. */
function blacken(shown: Shown, stored: Pixels, isPadding: (value: number) => boolean): void {
  const mustBeSigned = !shown.inverse && shown.lower < 0 && !isSigned(shown.values) && shown.max < 1 << 15;
  const values = mustBeSigned ? Int16Array.from(shown.values) : shown.values === stored ? stored.slice() : shown.values;
  if (shown.inverse) shown.max = within(values, Math.ceil(Math.max(shown.max, shown.upper)));
  else shown.min = within(values, Math.floor(Math.min(shown.min, shown.lower)));
  const black = shown.inverse ? shown.max : shown.min;
  for (let at = 0; at < stored.length; at++) if (isPadding(stored[at])) values[at] = black;
  shown.values = values;
}

/** Returns the nearest value that such an array can hold. */
function within(values: Pixels, value: number): number {
  const count = 2 ** (8 * values.BYTES_PER_ELEMENT);
  const lowest = isSigned(values) ? -count / 2 : 0;
  return Math.min(lowest + count - 1, Math.max(lowest, value));
}

function isSigned(values: Pixels): boolean {
  return values instanceof Int16Array || values instanceof Int8Array;
}

function paddingTest(display: Display): ((value: number) => boolean) | undefined {
  if (!display.padding || display.samples !== 1) return undefined;
  const [low, high] = display.padding;
  return (value) => value >= low && value <= high;
}

/** Returns the smallest and largest value, of those that are no padding if there are any. */
export function extremes(values: ArrayLike<number>, isPadding: ((value: number) => boolean) | undefined): [number, number] {
  let [min, max] = [Infinity, -Infinity];
  for (let at = 0; at < values.length; at++) {
    const value = values[at];
    if (value < min && !isPadding?.(value)) min = value;
    if (value > max && !isPadding?.(value)) max = value;
  }
  if (min <= max) return [min, max];
  return isPadding ? extremes(values, undefined) : [0, 0];
}

/** Returns the ends of a linear window (PS3.3 C.11.2.1.2.1, C.11.2.1.3.2), else those of the image. */
function ramp(window: Window | undefined, shown: Shown): [number, number] {
  if (!window) {
    const ends = [shown.min, shown.max].map((value) => value * shown.slope + shown.intercept).sort((a, b) => a - b);
    return [ends[0], ends[1] > ends[0] ? ends[1] : ends[0] + 1];
  }
  return windowEnds(window);
}

export function windowEnds({ center, width, shape }: Pick<Window, "center" | "width" | "shape">): [number, number] {
  if (shape === "LINEAR_EXACT") return [center - width / 2, center + width / 2];
  const half = Math.max(width - 1, 1e-3) / 2;
  return [center - 0.5 - half, center - 0.5 + half];
}

function modalityOf(display: Display): (value: number) => number {
  const { modalityTable, slope, intercept } = display;
  return modalityTable ? (value) => lookUp(modalityTable, value) : (value) => value * slope + intercept;
}

/** Returns the VOI transformation, to 0 to 1. */
function voiOf(contrast: Contrast | undefined, low: number, high: number): (value: number) => number {
  if (contrast?.kind === "table") {
    const white = 2 ** contrast.table.bits - 1;
    return (value) => lookUp(contrast.table, value) / white;
  }
  if (contrast?.shape === "SIGMOID") {
    return (value) => 1 / (1 + Math.exp((-4 * (value - contrast.center)) / contrast.width));
  }
  const [dark, light] = contrast ? windowEnds(contrast) : [low, high > low ? high : low + 1];
  return (value) => Math.min(1, Math.max(0, (value - dark) / (light - dark)));
}

function presentationOf(table: Table | undefined): (value: number) => number {
  if (!table) return (value) => value;
  const white = 2 ** table.bits - 1;
  const last = table.values.length - 1;
  return (value) => table.values[Math.round(value * last)] / white;
}

function lookUp(table: Table, value: number): number {
  const at = Math.trunc(value - table.first);
  return table.values[Math.min(table.values.length - 1, Math.max(0, at))];
}
