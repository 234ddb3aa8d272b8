// Fetches from this node's DICOMweb services, which are beside the viewer.

import { type DataSet, reason, text } from "./dicom_json";

const BASE = new URL("../dicom-web", location.href).href;
const JSON_MODEL = "application/dicom+json";

export interface Frame {
  transferSyntax: string;
  content: Uint8Array;
}

export function instanceUrl(study: string, series: string, instance: string): string {
  return `${BASE}/studies/${study}/series/${series}/instances/${instance}`;
}

export function seriesUrl(study: string, series: string): string {
  return `${BASE}/studies/${study}/series/${series}`;
}

export function fetchMetadata(study: string): Promise<DataSet[]> {
  return fetchJson(`${BASE}/studies/${study}/metadata`);
}

async function fetchJson(url: string): Promise<DataSet[]> {
  const response = await fetch(url, { headers: { Accept: JSON_MODEL } });
  if (!response.ok) throw new Error(await reason(response));
  return response.json();
}

/** Stores an instance, by its metadata alone (PS3.18 10.5), and returns it as the node has it. */
export async function storeInstance(dataSet: DataSet): Promise<DataSet> {
  const [study, series, instance] = ["0020000D", "0020000E", "00080018"].map((tag) => text(dataSet, tag));
  const boundary = "metadata"; // JSON has no line that begins with --
  const response = await fetch(`${BASE}/studies/${study}`, {
    method: "POST",
    headers: { "Content-Type": `multipart/related; type="${JSON_MODEL}"; boundary=${boundary}`, Accept: JSON_MODEL },
    body: `--${boundary}\r\nContent-Type: ${JSON_MODEL}\r\n\r\n${JSON.stringify([dataSet])}\r\n--${boundary}--\r\n`,
  });
  if (response.status !== 200) {
    const warning = /"(.*)"/.exec(response.headers.get("Warning") ?? "")?.[1];
    throw new Error(warning ?? (await reason(response)));
  }
  const [stored] = await fetchJson(`${instanceUrl(study, series, instance)}/metadata`);
  return stored;
}

const begun = new Map<string, Promise<Frame>>();

/** Begins to fetch a frame that will be asked for; ``path`` is that of its instance below the service. */
export function fetchAhead(path: string, frame: number): void {
  const url = `${BASE}/${path}/frames/${frame}`;
  const fetching = fetchUrl(url);
  fetching.catch(() => {}); // told when it is asked for
  begun.set(url, fetching);
}

/** Returns a frame as it is stored. */
export function fetchFrame(instance: string, frame: number): Promise<Frame> {
  const url = `${instance}/frames/${frame}`;
  const ahead = begun.get(url);
  begun.delete(url);
  return ahead ?? fetchUrl(url);
}

async function fetchUrl(url: string): Promise<Frame> {
  const response = await fetch(url, { headers: { Accept: "application/octet-stream; transfer-syntax=*" } });
  if (!response.ok) throw new Error(await reason(response));
  const transferSyntax = /transfer-syntax="?([0-9.]+)"?/.exec(response.headers.get("Content-Type") ?? "")?.[1];
  if (!transferSyntax) throw new Error("The node does not say how the frame is encoded");
  return { transferSyntax, content: new Uint8Array(await response.arrayBuffer()) };
}
