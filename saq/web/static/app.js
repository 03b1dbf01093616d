// The page: which one it is, its title, and where the focus goes. Everything else is in the modules below.

import { listen as followLinks, url, usePlace } from "./address.js";
import { ask, sentence } from "./api.js";
import { listen as hearKeys } from "./keys.js";
import { start } from "./live.js";
import { Failed } from "./pages/failed.js";
import { Job } from "./pages/job.js";
import { Overview } from "./pages/overview.js";
import { Queue } from "./pages/queue.js";
import { Schedule } from "./pages/schedule.js";
import { Workers } from "./pages/workers.js";
import { about } from "./parts/actions.js";
import { Dialogs } from "./parts/dialogs.js";
import { Frame } from "./parts/frame.js";
import { Empty } from "./parts/table.js";
import { shown } from "./parts/text.js";
import { Toasts } from "./parts/toasts.js";
import { html, render, useEffect, useRef } from "./ui.js";

const Missing = () => html`<h1>Nothing here</h1><${Empty}>There is no such page. <a href=${url("")}>Overview</a><//>`;

const PAGES = {
  overview: [Overview, "Overview"],
  failed: [Failed, "Failed jobs"],
  schedule: [Schedule, "Schedule"],
  workers: [Workers, "Workers"],
  queue: [Queue],
  job: [Job],
  missing: [Missing, "Nothing here"],
};

function App() {
  const place = usePlace();
  const [Page, name] = PAGES[place.page];
  const shownBefore = useRef(place.path);
  useEffect(() => {
    document.title = `${name ?? shown(place.job ?? place.queue)} · saq`;
    if (shownBefore.current === place.path) return;
    shownBefore.current = place.path;
    // A new page is read from its beginning, as if it had been loaded.
    const main = document.getElementById("main");
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [place.path]);
  return html`
    <${Frame} place=${place}><${Page} key=${place.path} place=${place} /><//>
    <${Toasts} />
    <${Dialogs} />
  `;
}

async function introduce() {
  try {
    about.set(await ask("about"));
  } catch (error) {
    if (error.status === 401) return;
    console.warn(sentence(error));
    setTimeout(introduce, 5000);
  }
}

followLinks();
hearKeys();
start();
introduce();
render(html`<${App} />`, document.getElementById("app"));
