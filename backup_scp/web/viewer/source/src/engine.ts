// cornerstone's engine and tools, set up once.

import { RenderingEngine, cache, getWebWorkerManager, init as initCore, setUseCPURendering } from "@cornerstonejs/core";
import { init as initLoader } from "@cornerstonejs/dicom-image-loader";
import * as tools from "@cornerstonejs/tools";

import { imageId, loadedImage, registerLoader } from "./loader";
import { Pane } from "./pane";
import type { Stored } from "./pixels";
import type { Codecs } from "./stored";
import { STRINGS, type Tool } from "./strings";
import { type Source, spacingOf } from "./study";

const CACHE_BYTES = 1 << 30;
const GROUP = "tools";
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

const ENGINE = "engine";

/** Those of cornerstone; the magnifier is ours, since its own does not enlarge without a graphics card. */
const TOOLS: Record<Exclude<Tool, "magnify">, typeof tools.PanTool> = {
  window: tools.WindowLevelTool,
  region: tools.WindowLevelRegionTool,
  zoom: tools.ZoomTool,
  pan: tools.PanTool,
  scroll: tools.StackScrollTool,
  length: tools.LengthTool,
  angle: tools.AngleTool,
} as never;

/** Starts the engine: on the graphics card, or on the processor where there is none. */
export function startEngine(): RenderingEngine {
  initCore();
  const wanted = new URLSearchParams(location.search).get("rendering");
  const isSlow = SOFTWARE.test(graphicsCard());
  if (wanted !== "gpu" && (isSlow || wanted === "cpu")) setUseCPURendering(true);
  cache.setMaxCacheSize(CACHE_BYTES);
  initLoader({ maxWebWorkers: Math.max(1, Math.min(4, (navigator.hardwareConcurrency || 2) - 1)) });
  tools.init();
  registerLoader();
  const group = tools.ToolGroupManager.createToolGroup(GROUP)!;
  for (const tool of Object.values(TOOLS)) tools.addTool(tool);
  for (const [name, tool] of Object.entries(TOOLS)) group.addTool(tool.toolName, CONFIGURATIONS[name as Tool] ?? {});
  return new RenderingEngine(ENGINE);
}

/** Returns the name of what WebGL draws with. */
function graphicsCard(): string {
  const context = document.createElement("canvas").getContext("webgl2");
  const names = context?.getExtension("WEBGL_debug_renderer_info");
  const name = names ? String(context!.getParameter(names.UNMASKED_RENDERER_WEBGL)) : "";
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return name;
}

interface Measured {
  cachedStats: Record<string, { length?: number; angle?: number }>;
}

const CONFIGURATIONS: Partial<Record<Tool, object>> = {
  length: { getTextLines: (data: Measured, target: string) => lengthText(data.cachedStats[target]?.length, target) },
  angle: {
    getTextLines: (data: Measured, target: string) => {
      const angle = data.cachedStats[target]?.angle;
      return angle === undefined || Number.isNaN(angle) ? undefined : [STRINGS.degrees(angle)];
    },
  },
};

/** Says a length with its unit, and that the detector's scale is not the patient's. */
function lengthText(length: number | undefined, target: string): string[] | undefined {
  if (length === undefined || Number.isNaN(length)) return undefined;
  const source = loadedImage(target.slice(target.indexOf(":") + 1))?.source;
  const kind = source ? spacingOf(source.dataSet, source.frame).kind : "none";
  if (kind === "none") return [STRINGS.pixels(length)];
  return [kind === "patient" ? STRINGS.millimetres(length) : STRINGS.millimetresAtDetector(length)];
}

/** Gives the first button or finger to a tool; the others keep theirs: middle pans, right zooms, the wheel scrolls. */
export function activate(tool: Tool): void {
  const group = tools.ToolGroupManager.getToolGroup(GROUP)!;
  const { MouseBindings } = tools.Enums;
  for (const each of Object.values(TOOLS)) group.setToolPassive(each.toolName, { removeAllBindings: true });
  const bindings = new Map<keyof typeof TOOLS, object[]>([
    ["pan", [{ mouseButton: MouseBindings.Auxiliary }, { numTouchPoints: 2 }]],
    ["zoom", [{ mouseButton: MouseBindings.Secondary }]],
    ["scroll", [{ mouseButton: MouseBindings.Wheel }]],
  ]);
  if (tool !== "magnify") bindings.set(tool, [{ mouseButton: MouseBindings.Primary }, ...(bindings.get(tool) ?? [])]);
  for (const [name, bound] of bindings) group.setToolActive(TOOLS[name].toolName, { bindings: bound as never });
}

export function clearMeasurements(): void {
  tools.annotation.state.removeAllAnnotations();
}

/** Lets cornerstone's codecs decode a frame, in a worker. */
export const decode: Codecs = async (imageFrame, transferSyntax, pixelData) => {
  const result: { pixelData: Stored } = await getWebWorkerManager().executeTask("dicomImageLoader", "decodeTask", {
    imageFrame,
    transferSyntax,
    pixelData,
    options: { preScale: { enabled: false } },
    decodeConfig: {},
  });
  return result.pixelData;
};

export function makePane(engine: RenderingEngine, parent: HTMLElement, id: string): Pane {
  const pane = new Pane(engine, parent, id);
  tools.ToolGroupManager.getToolGroup(GROUP)!.addViewport(id, ENGINE);
  return pane;
}

export const idOf: (source: Source) => string = imageId;
