// Reads how the pixels of an image are to be displayed (PS3.3 C.7.6.3, C.11.1, C.11.2; PS3.4 N.2).

import { type DataSet, type Element, bytes, items, number, numbers, text, texts } from "./dicom_json";

export interface Table {
  first: number;
  bits: number;
  values: ArrayLike<number>;
}

export interface Window {
  kind: "window";
  name: string;
  center: number;
  width: number;
  shape: "LINEAR" | "LINEAR_EXACT" | "SIGMOID";
}

export interface Voi {
  kind: "table";
  name: string;
  table: Table;
}

export type Contrast = Window | Voi;

export interface Display {
  rows: number;
  columns: number;
  samples: number;
  bitsAllocated: number;
  bitsStored: number;
  highBit: number;
  signed: boolean;
  planar: boolean;
  interpretation: string;
  slope: number;
  intercept: number;
  modalityTable?: Table;
  padding?: [number, number];
  /** What the image itself offers, the default first. */
  contrasts: Contrast[];
  inverse: boolean;
  /** From P-Values of the VOI to those that are displayed (PS3.3 C.11.4); only a Presentation State has one. */
  presentationTable?: Table;
  palette?: [Table, Table, Table];
}

export async function readDisplay(image: DataSet, frame: number): Promise<Display> {
  const interpretation = text(image, "00280004", "MONOCHROME2");
  const bitsAllocated = number(image, "00280100") ?? 16;
  const bitsStored = number(image, "00280101") ?? bitsAllocated;
  const signed = number(image, "00280103") === 1;
  const rescale = group(image, frame, "00289145");
  return {
    rows: number(image, "00280010") ?? 0,
    columns: number(image, "00280011") ?? 0,
    samples: number(image, "00280002") ?? 1,
    bitsAllocated,
    bitsStored,
    highBit: number(image, "00280102") ?? bitsStored - 1,
    signed,
    planar: number(image, "00280006") === 1,
    interpretation,
    slope: number(rescale, "00281053") ?? number(image, "00281053") ?? 1,
    intercept: number(rescale, "00281052") ?? number(image, "00281052") ?? 0,
    modalityTable: await firstTable(image, "00283000", signed),
    padding: readPadding(image, signed, bitsAllocated),
    contrasts: await readContrasts(image, frame, signed),
    inverse: interpretation === "MONOCHROME1" || text(image, "20500020") === "INVERSE",
    palette: interpretation === "PALETTE COLOR" ? await readPalette(image) : undefined,
  };
}

/** Returns the windows and tables of an image or Presentation State; a window is the default. */
export async function readContrasts(dataSet: DataSet, frame: number, signed: boolean): Promise<Contrast[]> {
  const own = windows(group(dataSet, frame, "00289132"));
  const found: Contrast[] = own.length ? own : windows(dataSet);
  for (const item of items(dataSet, "00283010")) {
    const table = await readTable(item, "00283002", "00283006", signed);
    if (table) found.push({ kind: "table", name: text(item, "00283003"), table });
  }
  return found;
}

function windows(dataSet: DataSet): Window[] {
  const widths = numbers(dataSet, "00281051");
  const names = texts(dataSet, "00281055");
  const shape = text(dataSet, "00281056");
  return numbers(dataSet, "00281050").flatMap((center, at) => {
    if (!(widths[at] > 0)) return [];
    const known = shape === "SIGMOID" || shape === "LINEAR_EXACT" ? shape : "LINEAR";
    return [{ kind: "window" as const, name: names[at] ?? "", center, width: widths[at], shape: known }];
  });
}

/** Returns a functional group of a frame (PS3.3 C.7.6.16): its own, else the shared one. */
export function group(image: DataSet, frame: number, tag: string): DataSet {
  const own = items(image, "52009230")[frame - 1];
  const shared = items(image, "52009229")[0];
  return (own && items(own, tag)[0]) ?? (shared && items(shared, tag)[0]) ?? {};
}

function readPadding(image: DataSet, signed: boolean, bits: number): [number, number] | undefined {
  const value = number(image, "00280120");
  if (value === undefined) return undefined;
  const ends = [value, number(image, "00280121") ?? value].map((end) =>
    signed && end >= 2 ** (bits - 1) ? end - 2 ** bits : end,
  );
  return [Math.min(...ends), Math.max(...ends)];
}

export async function firstTable(dataSet: DataSet, tag: string, signed: boolean): Promise<Table | undefined> {
  const item = items(dataSet, tag)[0];
  return item && readTable(item, "00283002", "00283006", signed);
}

async function readPalette(image: DataSet): Promise<[Table, Table, Table] | undefined> {
  const [red, green, blue] = await Promise.all(
    ["1", "2", "3"].map((n) => readTable(image, `0028110${n}`, `0028120${n}`, false)),
  );
  return red && green && blue ? [red, green, blue] : undefined;
}

async function readTable(item: DataSet, descriptor: string, data: string, signed: boolean): Promise<Table | undefined> {
  const described = numbers(item, descriptor);
  if (described.length !== 3) return undefined;
  const count = described[0] || 65536;
  const first = signed && described[1] >= 32768 ? described[1] - 65536 : described[1];
  const bits = described[2] > 0 && described[2] <= 16 ? described[2] : 16;
  const values = await tableValues(item[data], count);
  return values && { first, bits, values };
}

async function tableValues(element: Element | undefined, count: number): Promise<ArrayLike<number> | undefined> {
  if (element?.Value?.length) {
    const listed = element.Value.map((value) => Number(value) & 0xffff);
    if (listed.length >= count || listed.length * 2 < count) return listed;
    return listed.flatMap((word) => [word & 0xff, word >> 8]).slice(0, count);
  }
  const content = await bytes(element);
  if (!content?.length) return undefined;
  return content.length < 2 * count ? content.subarray(0, count) : words(content, count);
}

function words(content: Uint8Array, count: number): Uint16Array {
  return new Uint16Array(content.buffer.slice(content.byteOffset, content.byteOffset + 2 * count));
}
