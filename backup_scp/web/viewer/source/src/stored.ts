// Decodes a frame to its stored pixel values, or to RGB.

import type { Display, Table } from "./display";
import type { Frame } from "./dicomweb";
import type { Stored } from "./pixels";

const NATIVE = "1.2.840.10008.1.2.1"; // the node sends all that is not compressed in this one
const CONVERTED_BY_CODEC = /^1\.2\.840\.10008\.1\.2\.4\.(50|51|57|70|9\d)$|^1\.2\.840\.10008\.1\.2\.4\.20\d$/;

export interface Words {
  stored: Stored;
  /** The pixel words before bits were taken off: overlays may be in these (PS3.3 C.9.2, retired). */
  words?: Stored;
}

export function isColour(display: Display): boolean {
  return display.samples > 1 || display.palette !== undefined;
}

/** Returns the stored values of a frame with one sample for each pixel. */
export async function decodeGrey(frame: Frame, display: Display, tag: string): Promise<Words> {
  if (frame.transferSyntax !== NATIVE) return { stored: (await decoded(frame, display)) as Stored };
  const words = native(frame, display, tag);
  if (words instanceof Float32Array || words instanceof Float64Array) return { stored: words };
  if (display.bitsAllocated === 1) return { stored: unpacked(frame.content, display.rows * display.columns) };
  return { stored: withoutOtherBits(words, display), words };
}

function native(frame: Frame, display: Display, tag: string): Stored {
  const count = display.rows * display.columns * display.samples;
  const size = display.bitsAllocated / 8;
  const content = frame.content.subarray(0, Math.ceil(count * size));
  if (content.length < count * size) throw new Error("The pixel data is shorter than the image");
  const { buffer } = content; // the frame begins where it begins, so that nothing is copied
  if (tag === "7FE00008") return new Float32Array(buffer, 0, count);
  if (tag === "7FE00009") return new Float64Array(buffer, 0, count);
  if (size === 4) return display.signed ? new Int32Array(buffer, 0, count) : new Uint32Array(buffer, 0, count);
  return size === 2 ? new Uint16Array(buffer, 0, count) : content;
}

function unpacked(content: Uint8Array, count: number): Uint8Array {
  const pixels = new Uint8Array(count);
  for (let at = 0; at < count; at++) pixels[at] = (content[at >> 3] >> (at & 7)) & 1;
  return pixels;
}

/** Takes the bits of other things off, and extends the sign. */
function withoutOtherBits(words: Stored, display: Display): Stored {
  const { bitsAllocated, bitsStored, highBit, signed } = display;
  if (bitsAllocated > 16) return words;
  const shift = Math.max(0, highBit + 1 - bitsStored);
  if (bitsStored >= bitsAllocated && shift === 0) {
    if (!signed) return words;
    return bitsAllocated === 16 ? new Int16Array(words.buffer, 0, words.length) : new Int8Array(words.buffer, 0, words.length);
  }
  const mask = 2 ** bitsStored - 1;
  const half = signed ? 2 ** (bitsStored - 1) : 0;
  const values = signed ? new Int16Array(words.length) : new (words.constructor as Uint16ArrayConstructor)(words.length);
  for (let at = 0; at < words.length; at++) values[at] = (((words[at] >> shift) & mask) ^ half) - half;
  return values;
}

/** Returns a frame as RGB, 8 bits, by pixel. */
export async function decodeColour(frame: Frame, display: Display): Promise<Uint8Array> {
  if (display.palette) {
    const { stored } = await decodeGrey(frame, { ...display, palette: undefined }, "7FE00010");
    return throughPalette(stored, display.palette);
  }
  const pixels = display.rows * display.columns;
  const isNative = frame.transferSyntax === NATIVE;
  if (isNative && display.interpretation === "YBR_FULL_422" && frame.content.length < 3 * pixels) {
    return toRgb(from422(frame.content, pixels));
  }
  const samples = isNative ? native(frame, display, "7FE00010") : await decoded(frame, display);
  const shift = Math.max(0, display.bitsStored - 8);
  const rgb = new Uint8Array(3 * pixels);
  const isByPlane = isNative ? display.planar : frame.transferSyntax.endsWith(".2.5") && display.planar;
  for (let at = 0; at < rgb.length; at++) {
    const from = isByPlane ? (at % 3) * pixels + Math.floor(at / 3) : at;
    rgb[at] = samples[from] >> shift;
  }
  const isYbr = display.interpretation.startsWith("YBR_FULL") && !CONVERTED_BY_CODEC.test(frame.transferSyntax);
  return isYbr ? toRgb(rgb) : rgb;
}

function from422(content: Uint8Array, pixels: number): Uint8Array {
  const ybr = new Uint8Array(3 * pixels);
  for (let pair = 0; pair < pixels / 2; pair++) {
    const [one, two, blue, red] = content.subarray(4 * pair, 4 * pair + 4);
    ybr.set([one, blue, red, two, blue, red], 6 * pair);
  }
  return ybr;
}

/** Converts YBR_FULL in place (PS3.3 C.7.6.3.1.2). */
function toRgb(ybr: Uint8Array): Uint8Array {
  const rgb = new Uint8ClampedArray(ybr.buffer, ybr.byteOffset, ybr.length);
  for (let at = 0; at < rgb.length; at += 3) {
    const [y, blue, red] = [rgb[at], rgb[at + 1] - 128, rgb[at + 2] - 128];
    rgb[at] = y + 1.402 * red;
    rgb[at + 1] = y - 0.344136 * blue - 0.714136 * red;
    rgb[at + 2] = y + 1.772 * blue;
  }
  return ybr;
}

function throughPalette(stored: Stored, palette: [Table, Table, Table]): Uint8Array {
  const tables = palette.map((table) => {
    const isWide = table.bits > 8 && Array.from(table.values).some((value) => value > 255);
    return Uint8Array.from(table.values, (value) => (isWide ? value >> 8 : value));
  });
  const rgb = new Uint8Array(3 * stored.length);
  for (let at = 0; at < rgb.length; at++) {
    const table = tables[at % 3];
    const index = stored[Math.floor(at / 3)] - palette[at % 3].first;
    rgb[at] = table[Math.min(table.length - 1, Math.max(0, index))];
  }
  return rgb;
}

/** What a codec must know of a frame. */
export interface CodedFrame {
  samplesPerPixel: number;
  photometricInterpretation: string;
  planarConfiguration: number;
  rows: number;
  columns: number;
  bitsAllocated: number;
  bitsStored: number;
  pixelRepresentation: number;
}
export type Codecs = (frame: CodedFrame, transferSyntax: string, content: Uint8Array) => Promise<Stored>;

let loadCodecs: () => Promise<Codecs> = () => Promise.reject(new Error("No codecs"));

/** Says where codecs come from: they are loaded when an image needs one. */
export function setCodecs(load: () => Promise<Codecs>): void {
  loadCodecs = load;
}

async function decoded(frame: Frame, display: Display): Promise<Stored> {
  const decode = await loadCodecs();
  const coded = {
    samplesPerPixel: display.samples,
    photometricInterpretation: display.interpretation,
    planarConfiguration: display.planar ? 1 : 0,
    rows: display.rows,
    columns: display.columns,
    bitsAllocated: display.bitsAllocated,
    bitsStored: display.bitsStored,
    pixelRepresentation: display.signed ? 1 : 0,
  };
  return decode(coded, frame.transferSyntax, frame.content);
}
