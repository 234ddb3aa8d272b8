// Reads the DICOM JSON Model (PS3.18 Annex F).

export interface Element {
  vr: string;
  Value?: unknown[];
  InlineBinary?: string;
  BulkDataURI?: string;
}
export type DataSet = Record<string, Element>;

export function text(dataSet: DataSet, tag: string, otherwise = ""): string {
  const value = dataSet[tag]?.Value?.[0];
  if (value === undefined || value === null) return otherwise;
  if (typeof value === "object") {
    const names = value as Record<string, string>;
    return names.Alphabetic ?? names.Ideographic ?? otherwise;
  }
  return String(value);
}

export function numbers(dataSet: DataSet, tag: string): number[] {
  return (dataSet[tag]?.Value ?? []).map(Number).filter(Number.isFinite);
}

export function number(dataSet: DataSet, tag: string): number | undefined {
  return numbers(dataSet, tag)[0];
}

export function texts(dataSet: DataSet, tag: string): string[] {
  return (dataSet[tag]?.Value ?? []).map((value) => String(value ?? ""));
}

export function items(dataSet: DataSet, tag: string): DataSet[] {
  return (dataSet[tag]?.Value ?? []).filter((item) => item !== null) as DataSet[];
}

/** Returns a binary value, from the metadata or from where the metadata says that it is. */
export async function bytes(element: Element | undefined): Promise<Uint8Array | undefined> {
  if (element?.InlineBinary !== undefined) {
    return Uint8Array.from(atob(element.InlineBinary), (letter) => letter.charCodeAt(0));
  }
  if (element?.BulkDataURI !== undefined) {
    const response = await fetch(sameOrigin(element.BulkDataURI), { headers: { Accept: "application/octet-stream" } });
    if (!response.ok) throw new Error(await reason(response));
    return new Uint8Array(await response.arrayBuffer());
  }
  return undefined;
}

/** Returns the sentence of a problem (RFC 9457). */
export async function reason(response: Response): Promise<string> {
  try {
    return String((await response.json()).detail ?? response.status);
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

/** Behind a proxy the node may not know its own address: only the path of a URI of ours counts. */
function sameOrigin(uri: string): string {
  const url = new URL(uri, location.href);
  return location.origin + url.pathname + url.search;
}
