// Fetches from this node's DICOMweb services, which are beside the viewer.

import { type DataSet, reason } from "./dicom_json";

const BASE = new URL("../dicom-web", location.href).href;

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

export async function fetchMetadata(study: string): Promise<DataSet[]> {
  const response = await fetch(`${BASE}/studies/${study}/metadata`, { headers: { Accept: "application/dicom+json" } });
  if (!response.ok) throw new Error(await reason(response));
  return response.json();
}

/** Returns a frame as it is stored. */
export async function fetchFrame(instance: string, frame: number): Promise<Frame> {
  const response = await fetch(`${instance}/frames/${frame}`, {
    headers: { Accept: 'multipart/related; type="application/octet-stream"; transfer-syntax=*' },
  });
  if (!response.ok) throw new Error(await reason(response));
  return onlyPart(new Uint8Array(await response.arrayBuffer()), response.headers.get("Content-Type") ?? "");
}

/** Returns the only part of a multipart body, without a copy. */
function onlyPart(body: Uint8Array, contentType: string): Frame {
  const boundary = /boundary="?([^";]+)"?/.exec(contentType)?.[1] ?? "";
  const start = find(body, "\r\n\r\n", 0) + 4;
  const closing = `\r\n--${boundary}--`;
  const end = find(body, closing, Math.max(start, body.length - closing.length - 64));
  if (start < 4 || end < 0) throw new Error("The answer of the node has no end");
  const head = new TextDecoder().decode(body.subarray(0, start));
  const transferSyntax = /transfer-syntax="?([0-9.]+)"?/.exec(head)?.[1] ?? "1.2.840.10008.1.2.1";
  return { transferSyntax, content: body.subarray(start, end) };
}

function find(body: Uint8Array, wanted: string, from: number): number {
  for (let at = from; at <= body.length - wanted.length; at++) {
    let length = 0;
    while (length < wanted.length && body[at + length] === wanted.charCodeAt(length)) length++;
    if (length === wanted.length) return at;
  }
  return -1;
}
