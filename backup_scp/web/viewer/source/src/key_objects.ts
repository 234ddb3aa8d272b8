// Key Object Selection Documents (PS3.3 A.35.4): those of a study, and a new one of the images that are marked.

import { type DataSet, type Element, items, numbers, text } from "./dicom_json";
import { STRINGS } from "./strings";
import type { Series, Source, Study } from "./study";

export const KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59";

/** An image in a list of key images. */
export interface KeyImage {
  source: Source;
  series: Series;
  index: number;
}

/** Why images were selected, and which. */
export interface Selection {
  title: string;
  images: KeyImage[];
}

// Patient and study of the images, as they are; the last eight are of type 2, so that they are written without a value too.
const COPIED: [string, string][] = [
  ["00081030", "LO"],
  ["00100021", "LO"],
  ["00080020", "DA"],
  ["00080030", "TM"],
  ["00080050", "SH"],
  ["00080090", "PN"],
  ["00100010", "PN"],
  ["00100020", "LO"],
  ["00100030", "DA"],
  ["00100040", "CS"],
  ["00200010", "SH"],
];
const OPTIONAL = new Set(["00081030", "00100021"]);

/** Returns what the documents of a study select, in their order. */
export function selectionsOf(study: Study): Selection[] {
  return study.keyObjects.map((document) => ({
    title: [text(items(document, "0040A043")[0] ?? {}, "00080104", STRINGS.keyImages), dateOf(document)].filter(Boolean).join(", "),
    images: referencesOf(document).flatMap((reference) => imageOf(study, reference)),
  }));
}

interface Reference {
  instance: string;
  frames: number[];
}

function referencesOf(document: DataSet): Reference[] {
  return items(document, "0040A730")
    .filter((item) => text(item, "0040A040") === "IMAGE")
    .flatMap((item) => items(item, "00081199"))
    .map((each) => ({ instance: text(each, "00081155"), frames: numbers(each, "00081160") }));
}

/** Finds the frames of a reference; one without frames is shown by the first of the image. */
function imageOf(study: Study, { instance, frames }: Reference): KeyImage[] {
  const wanted = frames.length ? frames : [1];
  return study.series.flatMap((series) =>
    series.sources.flatMap((source, index) =>
      text(source.dataSet, "00080018") === instance && wanted.includes(source.frame) ? [{ source, series, index }] : [],
    ),
  );
}

function dateOf(document: DataSet): string {
  return text(document, "00080023").replace(/^(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3");
}

/** Returns a document that selects images of one study. */
export function keyObjects(study: Study, images: KeyImage[], now: Date): DataSet {
  const head = images[0].source.dataSet;
  const copied = COPIED.flatMap(([tag, vr]) => (head[tag] || !OPTIONAL.has(tag) ? [[tag, head[tag] ?? { vr }] as const] : []));
  const last = Math.max(0, ...study.series.map((series) => Number(series.number) || 0));
  return {
    ...Object.fromEntries(copied),
    "00080005": element("CS", "ISO_IR 192"),
    "00080016": element("UI", KEY_OBJECTS),
    "00080018": element("UI", newUid()),
    "00080023": element("DA", digits(now, "getFullYear", "getMonth", "getDate")),
    "00080033": element("TM", digits(now, "getHours", "getMinutes", "getSeconds")),
    "00080060": element("CS", "KO"),
    "00080070": element("LO"),
    "0008103E": element("LO", STRINGS.keyImages),
    "00081111": element("SQ"),
    "0020000D": element("UI", study.uid),
    "0020000E": element("UI", newUid()),
    "00200011": element("IS", last + 1),
    "00200013": element("IS", 1),
    "0040A040": element("CS", "CONTAINER"),
    "0040A043": element("SQ", { "00080100": element("SH", "113000"), "00080102": element("SH", "DCM"), "00080104": element("LO", "Of Interest") }),
    "0040A050": element("CS", "SEPARATE"),
    "0040A375": element("SQ", { "0020000D": element("UI", study.uid), "00081115": element("SQ", ...evidence(images)) }),
    "0040A504": element("SQ", { "00080105": element("CS", "DCMR"), "0040DB00": element("CS", "2010") }),
    "0040A730": element("SQ", ...contents(images)),
  };
}

/** Names the instances by their series (PS3.3 C.17.2.1). */
function evidence(images: KeyImage[]): DataSet[] {
  return [...Map.groupBy(images, ({ series }) => series.uid)].map(([uid, own]) => ({
    "0020000E": element("UI", uid),
    "00081199": element("SQ", ...byInstance(own).map(([first]) => reference(first))),
  }));
}

function contents(images: KeyImage[]): DataSet[] {
  return byInstance(images).map((own) => {
    const frames = own[0].source.frames > 1 ? { "00081160": element("IS", ...own.map(({ source }) => source.frame)) } : {};
    return {
      "0040A010": element("CS", "CONTAINS"),
      "0040A040": element("CS", "IMAGE"),
      "00081199": element("SQ", { ...reference(own[0]), ...frames }),
    };
  });
}

function byInstance(images: KeyImage[]): KeyImage[][] {
  return [...Map.groupBy(images, ({ source }) => source.url).values()];
}

function reference({ source }: KeyImage): DataSet {
  return {
    "00081150": element("UI", text(source.dataSet, "00080016")),
    "00081155": element("UI", text(source.dataSet, "00080018")),
  };
}

function element(vr: string, ...Value: unknown[]): Element {
  return Value.length ? { vr, Value } : { vr };
}

function digits(now: Date, ...parts: ("getFullYear" | "getMonth" | "getDate" | "getHours" | "getMinutes" | "getSeconds")[]): string {
  return parts.map((part) => String(now[part]() + (part === "getMonth" ? 1 : 0)).padStart(2, "0")).join("");
}

/** Returns a UID made from a random UUID (PS3.5 B.2). */
function newUid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return `2.25.${BigInt(`0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`)}`;
}
