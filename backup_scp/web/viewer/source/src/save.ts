// Print and export.

import { reason } from "./dicom_json";
import { element } from "./html";
import type { Source } from "./study";

const QUALITY = 0.95;

export async function savePicture(canvas: HTMLCanvasElement, type: "jpeg" | "png", name: string): Promise<void> {
  save(await blobOf(canvas, `image/${type}`), `${name}.${type === "jpeg" ? "jpg" : "png"}`);
}

export async function saveDicom(source: Source, name: string): Promise<void> {
  const response = await fetch(source.url, { headers: { Accept: "application/dicom; transfer-syntax=*" } });
  if (!response.ok) throw new Error(await reason(response));
  save(await response.blob(), `${name}.dcm`);
}

/** Prints a picture on a page of its own, with a line of words below it. */
export async function print(canvas: HTMLCanvasElement, words: string): Promise<void> {
  const url = URL.createObjectURL(await blobOf(canvas, "image/png"));
  const page = element("div", "print");
  const picture = element("img");
  picture.src = url;
  picture.alt = words;
  page.append(picture, element("p", "", words));
  document.body.append(page);
  await picture.decode();
  window.addEventListener(
    "afterprint",
    () => {
      page.remove();
      URL.revokeObjectURL(url);
    },
    { once: true },
  );
  window.print();
}

function blobOf(canvas: HTMLCanvasElement, type: string): Promise<Blob> {
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(type))), type, QUALITY),
  );
}

function save(blob: Blob, name: string): void {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
