// The viewer's page: the buttons, the list of series, one or two panes.

import type { RenderingEngine } from "@cornerstonejs/core";

import { PRESETS, contrastOptions } from "./contrast";
import { storeInstance } from "./dicomweb";
import { previewOf, showFirst } from "./first_picture";
import { element } from "./html";
import { KeyImages } from "./key_images";
import { keyObjects } from "./key_objects";
import { commandOf, keyName } from "./keys";
import type { Pane } from "./pane";
import { print, saveDicom, savePicture } from "./save";
import { seriesList } from "./series_list";
import { setCodecs } from "./stored";
import { type Command, STRINGS, TOOL_NAMES, type Tool } from "./strings";
import type { Series, Source, Study } from "./study";

const GROUPS: [string, Command[]][] = [
  [STRINGS.tools, [...TOOL_NAMES]],
  [STRINGS.images, ["previous", "next", "cine", "key", "store", "layout"]],
  [STRINGS.output, ["print", "jpeg", "png", "dicom", "help"]],
  [STRINGS.view, ["fit", "actual", "invert", "rotateLeft", "rotateRight", "flipHorizontal", "flipVertical", "reset", "clear"]],
];

type Program = typeof import("./engine");

export class Page {
  #program: Program | undefined;
  #engine: RenderingEngine | undefined;
  #panes: Pane[] = [];
  #active: Pane | undefined;
  #studies: Study[] = [];
  #buttons = new Map<Command, HTMLButtonElement>();
  #contrast = element("select");
  #list = element("nav", "series");
  #grid = element("main", "panes");
  #status = element("p", "status");
  #help = element("dialog");
  #keyImages = new KeyImages();
  #made = 0;

  constructor(root: HTMLElement) {
    this.#status.setAttribute("role", "status");
    this.#status.textContent = STRINGS.notForDiagnosis;
    this.#grid.setAttribute("aria-label", STRINGS.images);
    this.#list.setAttribute("aria-label", STRINGS.series);
    this.#grid.append(...root.querySelectorAll(".pane")); // the small picture that is in the page
    root.replaceChildren(this.#toolbar(), this.#list, this.#grid, this.#status, this.#helpDialog());
    setCodecs(async () => (await this.#start()).decode);
    document.addEventListener("keydown", (event) => this.#pressed(event));
    new ResizeObserver(() => this.#resize()).observe(this.#grid);
  }

  /** Shows one study, or two side by side, the older one left. */
  async show(studies: Study[]): Promise<void> {
    this.#studies = studies.toSorted((one, other) => one.date.localeCompare(other.date));
    const withImages = this.#studies.filter((study) => study.series.length);
    document.title = [withImages[0]?.patient, STRINGS.title].filter(Boolean).join(" – ");
    if (!withImages.length) {
      this.#grid.replaceChildren();
      this.#tell(STRINGS.noImages);
      this.#listSeries();
      return;
    }
    this.#grid.dataset.panes = String(withImages.length);
    const firsts = withImages.map((study) => this.#first(study.series[0].sources[0]));
    this.#grid.replaceChildren(...firsts.map(({ place }) => place));
    await Promise.allSettled(firsts.map(({ isShown }) => isShown));
    await this.#start();
    this.#use("window");
    const panes = withImages.map(() => this.#addPane());
    panes.forEach((pane, at) => pane.showFirst(firsts[at].preview));
    this.#resize();
    const shown = panes.map((pane, at) => pane.show(withImages[at].series[0]));
    for (const each of await Promise.allSettled(shown)) if (each.status === "rejected") this.#try(Promise.reject(each.reason));
    this.#listSeries();
  }

  /** Shows an image before the rest of the program is there. */
  #first(source: Source): { place: HTMLElement; preview: HTMLElement; isShown: Promise<void> } {
    const preview = previewOf(source);
    const place = element("section", "pane");
    place.append(preview);
    return { place, preview, isShown: Promise.resolve().then(() => showFirst(preview, source)) };
  }

  /** Loads cornerstone, once. */
  async #start(): Promise<Program> {
    const program = await import("./engine");
    if (!this.#program) {
      this.#program = program;
      this.#engine = program.startEngine();
    }
    return program;
  }

  #toolbar(): HTMLElement {
    const header = element("header");
    const bar = element("div", "toolbar");
    header.append(element("h1", "unseen", STRINGS.title), bar);
    bar.setAttribute("role", "toolbar");
    bar.setAttribute("aria-label", STRINGS.tools);
    for (const [name, commands] of GROUPS) {
      const group = element("div", "group");
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", name);
      group.append(...commands.map((command) => this.#button(command)));
      if (name === STRINGS.view) group.append(this.#contrastChoice());
      bar.append(group);
    }
    return header;
  }

  #button(command: Command): HTMLButtonElement {
    const button = element("button", "", STRINGS.buttons[command]);
    button.type = "button";
    button.title = `${STRINGS.hints[command]} (${keyName(command)})`;
    button.dataset.command = command;
    button.onclick = () => this.#run(command);
    this.#buttons.set(command, button);
    return button;
  }

  #contrastChoice(): HTMLElement {
    const label = element("label", "choice", STRINGS.contrast);
    this.#contrast.onchange = () => {
      const [kind, at] = this.#contrast.value.split(" ");
      if (kind === "preset") this.#active?.setWindow(PRESETS[Number(at)]);
      else this.#try(this.#active?.setLook(Number(at)));
      this.#active?.root.focus();
    };
    label.append(this.#contrast);
    return label;
  }

  #addPane(): Pane {
    if (!this.#panes.length) this.#grid.replaceChildren();
    const pane = this.#program!.makePane(this.#engine!, this.#grid, `pane${this.#made++}`);
    pane.root.onpointerdown = pane.root.onfocus = () => this.#choose(pane);
    pane.onChange = () => this.#changed(pane);
    pane.afterSeries = () => this.#after(pane);
    this.#panes.push(pane);
    this.#active ??= pane;
    this.#grid.dataset.panes = String(this.#panes.length);
    return pane;
  }

  #choose(pane: Pane): void {
    if (pane === this.#active) return;
    this.#active = pane;
    this.#changed(pane);
  }

  #after(pane: Pane): string | undefined {
    const all = this.#studies.flatMap((study) => study.series);
    const next = all[all.indexOf(pane.series!) + 1];
    return next && this.#program!.idOf(next.sources[0]);
  }

  /** Lets buttons and lists say what the active pane shows. */
  #changed(pane: Pane): void {
    if (pane !== this.#active) return;
    for (const each of this.#panes) each.root.classList.toggle("active", each === pane && this.#panes.length > 1);
    for (const button of this.#list.querySelectorAll<HTMLElement>("[data-series]")) {
      button.setAttribute("aria-current", String(this.#panes.some((each) => each.series?.uid === button.dataset.series)));
    }
    this.#buttons.get("cine")!.setAttribute("aria-pressed", String(pane.isPlaying));
    this.#buttons.get("layout")!.setAttribute("aria-pressed", String(this.#panes.length > 1));
    this.#buttons.get("key")!.setAttribute("aria-pressed", String(!!pane.current && this.#keyImages.has(pane.current)));
    this.#contrast.replaceChildren(...contrastOptions(pane.looks, pane.look, pane.series?.modality ?? ""));
  }

  #use(tool: Tool): void {
    this.#program!.activate(tool);
    this.#grid.dataset.tool = tool;
    for (const name of TOOL_NAMES) this.#buttons.get(name)!.setAttribute("aria-pressed", String(name === tool));
  }

  #run(command: Command): void {
    const pane = this.#active;
    if (!pane) return;
    if (TOOL_NAMES.includes(command as Tool)) {
      this.#use(command as Tool);
      return;
    }
    const actions: Partial<Record<Command, () => unknown>> = {
      fit: () => pane.fit(),
      actual: () => pane.actualSize(),
      invert: () => pane.invert(),
      rotateLeft: () => pane.rotate(-90),
      rotateRight: () => pane.rotate(90),
      flipHorizontal: () => pane.flip("flipHorizontal"),
      flipVertical: () => pane.flip("flipVertical"),
      reset: () => pane.reset(),
      clear: () => {
        this.#program!.clearMeasurements();
        this.#engine!.render();
      },
      cine: () => (pane.isPlaying ? pane.stop() : pane.play()),
      next: () => pane.go(pane.index + 1),
      previous: () => pane.go(pane.index - 1),
      key: () => this.#mark(pane),
      store: () => this.#storeMarks().catch((error) => this.#tell(STRINGS.keyImagesNotStored(error?.message ?? String(error)))),
      layout: () => this.#changeLayout(),
      print: () => this.#output(pane, (canvas) => print(canvas, this.#caption(pane))),
      jpeg: () => this.#output(pane, (canvas, name) => savePicture(canvas, "jpeg", name)),
      png: () => this.#output(pane, (canvas, name) => savePicture(canvas, "png", name)),
      dicom: () => pane.current && saveDicom(pane.current, fileName(pane.current)),
      help: () => this.#help.showModal(),
    };
    this.#try(actions[command]?.());
  }

  #try(done: unknown): void {
    Promise.resolve(done).catch((error) => this.#tell(STRINGS.failed(error?.message ?? String(error))));
  }

  #tell(words: string): void {
    this.#status.textContent = `${words} ${STRINGS.notForDiagnosis}`;
  }

  #mark(pane: Pane): void {
    if (!pane.current) return;
    this.#keyImages.toggle(pane.current);
    this.#listSeries();
    this.#changed(pane);
  }

  /** Stores the marks of each study as a document of its own; what is stored already stays as it is. */
  async #storeMarks(): Promise<void> {
    let count = 0;
    for (const study of this.#studies) {
      const marked = this.#keyImages.of(study);
      if (!marked.length) continue;
      study.keyObjects.push(await storeInstance(keyObjects(study, marked, new Date())));
      this.#keyImages.remove(marked);
      count += marked.length;
    }
    this.#listSeries();
    this.#tell(count ? STRINGS.keyImagesStored(count) : STRINGS.keyImagesToStore);
  }

  #output(pane: Pane, give: (canvas: HTMLCanvasElement, name: string) => Promise<void>): Promise<void> | undefined {
    const canvas = pane.picture();
    return canvas && pane.current ? give(canvas, fileName(pane.current)) : undefined;
  }

  #caption(pane: Pane): string {
    const { patient, patientId, birthDate, date, description } = pane.current!.study;
    return [patient, patientId, birthDate, date, description, STRINGS.notForDiagnosis].filter(Boolean).join(" · ");
  }

  #changeLayout(): void {
    if (this.#panes.length > 1) {
      const other = this.#panes.find((each) => each !== this.#active)!;
      other.destroy();
      this.#panes = [this.#active!];
      this.#grid.dataset.panes = "1";
      this.#resize();
      this.#changed(this.#active!);
      return;
    }
    const first = this.#active!;
    const second = this.#addPane();
    this.#resize();
    const all = this.#studies.flatMap((study) => study.series);
    const next = all[all.indexOf(first.series!) + 1] ?? first.series;
    if (next) this.#try(second.show(next));
    this.#changed(first);
  }

  #listSeries(): void {
    const open = (series: Series, index?: number) => {
      const pane = this.#active;
      this.#try(index !== undefined && pane?.series === series ? pane.go(index) : pane?.show(series, index));
    };
    this.#list.replaceChildren(...seriesList(this.#studies, this.#keyImages, open));
    if (this.#active) this.#changed(this.#active);
  }

  #helpDialog(): HTMLDialogElement {
    const list = element("dl");
    for (const command of GROUPS.flatMap(([, commands]) => commands)) {
      list.append(element("dt", "", keyName(command)), element("dd", "", STRINGS.hints[command]));
    }
    const close = element("button", "", STRINGS.close);
    close.onclick = () => this.#help.close();
    this.#help.setAttribute("aria-label", STRINGS.hints.help);
    this.#help.append(list, close);
    return this.#help;
  }

  #pressed(event: KeyboardEvent): void {
    if (this.#help.open) return;
    const command = commandOf(event);
    if (!command) return;
    event.preventDefault();
    this.#run(command);
  }

  #resize(): void {
    if (!this.#panes.length) return;
    const views = this.#panes.map((pane) => pane.view);
    this.#engine!.resize(true, false);
    this.#panes.forEach((pane, at) => pane.resized(views[at]));
  }
}

function fileName(source: Source): string {
  return [source.study.date, source.dataSet["00200013"]?.Value?.[0], source.frames > 1 ? source.frame : ""]
    .filter(Boolean)
    .join("-") || "image";
}
