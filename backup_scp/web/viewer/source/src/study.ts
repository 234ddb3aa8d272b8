// What a study holds, from its metadata.

import { type DataSet, items, number, numbers, text } from "./dicom_json";
import { fetchMetadata, instanceUrl } from "./dicomweb";
import { KEY_OBJECTS } from "./key_objects";

/** One frame of an image. */
export interface Source {
  dataSet: DataSet;
  url: string;
  frame: number;
  frames: number;
  study: Study;
}

export interface Series {
  uid: string;
  number: string;
  modality: string;
  description: string;
  sources: Source[];
}

export interface Study {
  uid: string;
  patient: string;
  patientId: string;
  birthDate: string;
  date: string;
  description: string;
  series: Series[];
  /** Grayscale Softcopy Presentation States, and where they are. */
  presentations: DataSet[];
  /** Key Object Selection Documents. */
  keyObjects: DataSet[];
  /** Instances that are no image: their SOP Class and where they are. */
  others: { title: string; url: string }[];
}

const PIXELS = ["7FE00010", "7FE00008", "7FE00009"];
const GSPS = "1.2.840.10008.5.1.4.1.1.11.1";

export async function readStudy(uid: string): Promise<Study> {
  const instances = await fetchMetadata(uid);
  const first = instances[0] ?? {};
  const study: Study = {
    uid,
    patient: text(first, "00100010").replaceAll("^", " ").trim(),
    patientId: text(first, "00100020"),
    birthDate: date(text(first, "00100030")),
    date: date(text(first, "00080020")),
    description: text(first, "00081030"),
    series: [],
    presentations: instances.filter((each) => text(each, "00080016") === GSPS),
    keyObjects: instances.filter((each) => text(each, "00080016") === KEY_OBJECTS),
    others: [],
  };
  const bySeries = Map.groupBy(instances, (each) => text(each, "0020000E"));
  for (const [seriesUid, own] of bySeries) addSeries(study, seriesUid, own);
  study.series.sort((one, other) => place(one.number) - place(other.number) || one.uid.localeCompare(other.uid));
  return study;
}

function addSeries(study: Study, uid: string, instances: DataSet[]): void {
  const urlOf = (each: DataSet) => instanceUrl(study.uid, uid, text(each, "00080018"));
  const images = instances.filter((each) => pixelTag(each) !== undefined);
  for (const each of instances) {
    if (!images.includes(each) && ![GSPS, KEY_OBJECTS].includes(text(each, "00080016"))) {
      study.others.push({ title: text(each, "00420010") || text(each, "0008103E") || text(each, "00080060"), url: urlOf(each) });
    }
  }
  if (!images.length) return;
  const order = (one: DataSet) => place(text(one, "00200013"));
  images.sort((one, other) => order(one) - order(other) || text(one, "00080018").localeCompare(text(other, "00080018")));
  const sources = images.flatMap((dataSet) => {
    const frames = Math.max(1, number(dataSet, "00280008") ?? 1);
    return Array.from({ length: frames }, (_, at) => ({ dataSet, url: urlOf(dataSet), frame: at + 1, frames, study }));
  });
  const head = images[0];
  study.series.push({
    uid,
    number: text(head, "00200011"),
    modality: text(head, "00080060"),
    description: text(head, "0008103E"),
    sources,
  });
}

export function pixelTag(dataSet: DataSet): string | undefined {
  return PIXELS.find((tag) => tag in dataSet);
}

/** Puts what has no number last, as the node does, which has named the first image in the page. */
function place(number: string): number {
  return /^\d+$/.test(number) ? Number(number) : Infinity;
}

function date(value: string): string {
  return /^\d{8}$/.test(value) ? `${value.slice(0, 4)}-${value.slice(4, 6)}-${value.slice(6)}` : value;
}

export type SpacingKind = "patient" | "detector" | "none";

/** Returns millimetres between rows and columns, and where they are measured (PS3.3 10.7). */
export function spacingOf(dataSet: DataSet, frame: number): { row: number; column: number; kind: SpacingKind } {
  const measures = (group: DataSet | undefined) => group && items(group, "00289110")[0];
  const own = measures(items(dataSet, "52009230")[frame - 1]) ?? measures(items(dataSet, "52009229")[0]) ?? {};
  for (const [where, tag, kind] of [
    [own, "00280030", "patient"],
    [dataSet, "00280030", "patient"],
    [dataSet, "00181164", "detector"],
  ] as const) {
    const [row, column] = numbers(where, tag);
    if (row > 0 && column > 0) return { row, column, kind };
  }
  const [vertical, horizontal] = numbers(dataSet, "00280034");
  const ratio = vertical > 0 && horizontal > 0 ? vertical / horizontal : 1;
  return { row: ratio, column: 1, kind: "none" };
}
