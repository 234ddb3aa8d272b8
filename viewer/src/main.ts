// The page's start: what the node must send is asked for while the rest of the program loads.

import "events";

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
if (uids.length) {
  root.append(message(STRINGS.loading));
  const studies = uids.map(readStudy);
  try {
    const { Page } = await import("./page");
    const page = new Page(root);
    await page.show(await Promise.all(studies));
  } catch (error) {
    root.replaceChildren(message(STRINGS.failed(error instanceof Error ? error.message : String(error))));
  }
} else {
  root.append(message(STRINGS.noStudy));
}

function message(words: string): HTMLElement {
  const made = document.createElement("p");
  made.className = "message";
  made.setAttribute("role", "status");
  made.textContent = words;
  return made;
}
