// The page's start: what the node must send is asked for first.

import { fetchAhead } from "./dicomweb";
import { Page } from "./page";
import { STRINGS } from "./strings";
import { readStudy } from "./study";

const MOST_STUDIES = 2;

const uids = new URLSearchParams(location.search)
  .getAll("StudyInstanceUIDs")
  .flatMap((each) => each.split(","))
  .filter((each) => /^[0-9.]{1,64}$/.test(each))
  .slice(0, MOST_STUDIES);

const root = document.getElementById("viewer")!;
document.title = STRINGS.title;
const first = root.querySelector<HTMLImageElement>("[data-instance]");
if (first) fetchAhead(first.dataset.instance!, 1); // the node has named the first image in the page
if (uids.length) {
  const studies = uids.map(readStudy);
  try {
    await new Page(root).show(await Promise.all(studies));
  } catch (error) {
    root.replaceChildren(message(STRINGS.failed(error instanceof Error ? error.message : String(error))));
  }
} else {
  root.replaceChildren(message(STRINGS.noStudy));
}

function message(words: string): HTMLElement {
  const made = document.createElement("p");
  made.className = "message";
  made.setAttribute("role", "status");
  made.textContent = words;
  return made;
}
