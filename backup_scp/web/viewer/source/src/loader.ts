// Lets cornerstone load images: each is a frame with a look (its contrast, or a Presentation State).

import { type Types, imageLoader, metaData, utilities } from "@cornerstonejs/core";

import type { Display } from "./display";
import { colourCanvas } from "./paint";
import type { Shown } from "./pixels";
import { type Loaded, prepared } from "./prepare";
import { isColour } from "./stored";
import { type Source, spacingOf } from "./study";

const MOST_LOOKS = 64;
const sources = new Map<string, Source>();
const loaded = new Map<string, Loaded>();

/** Returns the id of an image; annotations and caches know an image by what follows the colon. */
export function imageId(source: Source, look = 0): string {
  const uri = `${source.url}/frames/${source.frame}`;
  sources.set(uri, source);
  return `look${look}:${uri}`;
}

export function loadedImage(id: string | undefined): Loaded | undefined {
  return id === undefined ? undefined : loaded.get(id);
}

export function registerLoader(): void {
  for (let look = 0; look < MOST_LOOKS; look++) {
    imageLoader.registerImageLoader(`look${look}`, (id: string) => ({ promise: load(id, look) as never }));
  }
  metaData.addProvider(provide, 1000);
}

function sourceOf(id: string): Source | undefined {
  return sources.get(id.slice(id.indexOf(":") + 1));
}

async function load(id: string, look: number): Promise<Types.IImage> {
  const ready = await prepared(sourceOf(id)!, look);
  loaded.set(id, ready);
  return image(id, ready.source, ready.display, ready.shown, isColour(ready.display) ? 3 : 1);
}

function image(id: string, source: Source, { rows, columns }: Display, shown: Shown, components: number): Types.IImage {
  const { values, lower, upper } = shown;
  const spacing = spacingOf(source.dataSet, source.frame);
  const isColoured = components === 3;
  const made = {
    imageId: id,
    dataType: values.constructor.name,
    minPixelValue: shown.min,
    maxPixelValue: shown.max,
    slope: 1,
    intercept: 0,
    windowCenter: isColoured ? 128 : (lower + upper + 1) / 2, // the ramp from lower to upper, by PS3.3 C.11.2.1.2.1
    windowWidth: isColoured ? 256 : upper - lower + 1,
    voiLUTFunction: "LINEAR",
    rows,
    columns,
    height: rows,
    width: columns,
    color: isColoured,
    rgba: false,
    numberOfComponents: components,
    columnPixelSpacing: spacing.column,
    rowPixelSpacing: spacing.row,
    invert: false,
    sizeInBytes: values.byteLength,
    voxelManager: utilities.VoxelManager.createImageVoxelManager({
      width: columns,
      height: rows,
      scalarData: values as never,
      numberOfComponents: components,
    }),
    getPixelData: () => values,
    getCanvas: isColoured ? once(() => colourCanvas(values, rows, columns)) : undefined,
  };
  return made as unknown as Types.IImage;
}

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}

/** Tells cornerstone what it asks of an image: a plane of its own, in millimetres where these are known. */
function provide(type: string, id: string): unknown {
  const source = typeof id === "string" ? sourceOf(id) : undefined;
  if (!source) return undefined;
  const { dataSet, frame } = source;
  const value = (tag: string) => dataSet[tag]?.Value?.[0];
  switch (type) {
    case "imagePixelModule": {
      const isColoured = Number(value("00280002") ?? 1) > 1 || value("00280004") === "PALETTE COLOR";
      return {
        bitsAllocated: value("00280100"),
        bitsStored: value("00280101"),
        highBit: value("00280102"),
        pixelRepresentation: value("00280103"),
        samplesPerPixel: isColoured ? 3 : 1,
        photometricInterpretation: isColoured ? "RGB" : "MONOCHROME2", // the inversion is ours
        rows: value("00280010"),
        columns: value("00280011"),
      };
    }
    case "imagePlaneModule": {
      const spacing = spacingOf(dataSet, frame);
      return {
        rows: value("00280010"),
        columns: value("00280011"),
        rowPixelSpacing: spacing.row,
        columnPixelSpacing: spacing.column,
        pixelSpacing: [spacing.row, spacing.column],
        rowCosines: [1, 0, 0],
        columnCosines: [0, 1, 0],
        imageOrientationPatient: [1, 0, 0, 0, 1, 0],
        imagePositionPatient: [0, 0, 0],
        frameOfReferenceUID: source.url,
        usingDefaultValues: spacing.kind === "none",
      };
    }
    case "generalSeriesModule":
      return { modality: "OT", seriesInstanceUID: value("0020000E") }; // no scaling of its own for PET and the like
    case "sopCommonModule":
      return { sopClassUID: value("00080016"), sopInstanceUID: value("00080018") };
    default:
      return undefined;
  }
}
