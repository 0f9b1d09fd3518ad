// The place to drop mice: sends each file to this page's own room on the server, then tells the page.
const AT_ONCE = 4;
const zone = element.querySelector(".m-drop");
const bar = zone.querySelector(".m-progress");
const problem = zone.querySelector(".m-drop-error");
let drops = 0;
let busy = false;

async function connected() {
  for (let tries = 0; !(props.value && props.value.token); tries++) {
    if (tries > 300) throw new Error("The page is not connected. Reload it.");
    await new Promise((yes) => setTimeout(yes, 100));
  }
}

async function inside(entry, path) {
  if (entry.isFile) {
    return [{ path: path + entry.name, file: await new Promise((yes, no) => entry.file(yes, no)) }];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((yes, no) => reader.readEntries(yes, no));
    if (!some.length) return found;
    for (const one of some) found.push(...(await inside(one, path + entry.name + "/")));
  }
}

function send(drop, one, progress) {
  const to = new URL(`mice/${props.value.token}/upload`, document.baseURI);
  to.search = new URLSearchParams({ drop, path: one.path });
  return new Promise((yes, no) => {
    const request = new XMLHttpRequest();
    request.open("POST", to);
    request.upload.onprogress = (e) => progress(e.loaded);
    request.onload = () => (request.status < 300 ? yes() : no(new Error(request.responseText)));
    request.onerror = () => no(new Error("The connection broke off. Is mousecmr serve still running?"));
    request.send(one.file);
  });
}

function show(done, total, n) {
  bar.hidden = false;
  bar.querySelector("p").textContent = `${n} ${n === 1 ? "file" : "files"}, ${(total / 1e6).toFixed(1)} MB`;
  bar.querySelector("i").style.width = `${total ? (100 * done) / total : 100}%`;
}

async function take(listed) {
  if (busy) return;
  busy = true;
  problem.hidden = true;
  zone.classList.add("m-busy");
  try {
    await connected();
    const files = (await listed).filter((f) => !f.path.split("/").some((p) => p.startsWith(".")));
    const total = files.reduce((sum, f) => sum + f.file.size, 0);
    const limit = props.value.limit_mb;
    if (!files.length) throw new Error("There is no file in it.");
    if (total > limit * 1024 * 1024) throw new Error(`These files have more than ${limit} MB in all. Send fewer at a time.`);
    const drop = drops++;
    const sent = new Map();
    const queue = [...files];
    show(0, total, files.length);
    const worker = async () => {
      for (let one = queue.shift(); one; one = queue.shift()) {
        const name = one.path;
        await send(drop, one, (n) => {
          sent.set(name, n);
          show([...sent.values()].reduce((a, b) => a + b, 0), total, files.length);
        });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  } catch (e) {
    problem.textContent = e.message || "This cannot be sent.";
    problem.hidden = false;
  }
  bar.hidden = true;
  zone.classList.remove("m-busy");
  busy = false;
  trigger("uploaded", {});
}

const chosen = (input) =>
  take(Promise.resolve([...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }))));

for (const kind of ["files", "folder"]) {
  const input = zone.querySelector(`[data-input=${kind}]`);
  zone.querySelector(`[data-choose=${kind}]`).addEventListener("click", (e) => {
    e.stopPropagation();
    input.click();
  });
  input.addEventListener("change", () => {
    if (input.files.length) chosen(input).then(() => (input.value = ""));
  });
}
zone.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && e.target === zone) zone.querySelector("[data-input=files]").click();
});
for (const name of ["dragenter", "dragover"]) {
  zone.addEventListener(name, (e) => {
    e.preventDefault();
    zone.classList.add("m-over");
  });
}
for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("m-over"));
zone.addEventListener("drop", (e) => {
  e.preventDefault();
  const entries = [...e.dataTransfer.items].map((i) => i.webkitGetAsEntry && i.webkitGetAsEntry()).filter(Boolean);
  take(Promise.all(entries.map((one) => inside(one, ""))).then((lists) => lists.flat()));
});
// A file that misses the zone must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (e) => e.preventDefault());
