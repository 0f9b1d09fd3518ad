// The drop zone: uploads each file to this page's session on the server, then notifies the page.
const PARALLEL = 4;
const zone = element.querySelector(".m-drop");
const bar = zone.querySelector(".m-progress");
const errorText = zone.querySelector(".m-drop-error");
let drops = 0;
let busy = false;

async function waitForSession() {
  for (let tries = 0; !props.value?.token; tries++) {
    if (tries > 300) throw new Error("The page is not connected. Reload it.");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

// Returns the files in an entry of a drop, a file or a folder, with their paths.
async function listFiles(entry, folder) {
  if (entry.isFile) {
    return [{ path: folder + entry.name, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) }];
  }
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const children = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!children.length) return files;
    for (const child of children) files.push(...(await listFiles(child, folder + entry.name + "/")));
  }
}

function send(drop, { path, file }, onProgress) {
  const url = new URL(`mice/${props.value.token}/upload`, document.baseURI);
  url.search = new URLSearchParams({ drop, path });
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.upload.onprogress = (e) => onProgress(e.loaded);
    request.onload = () => (request.status < 300 ? resolve() : reject(new Error(request.responseText)));
    request.onerror = () => reject(new Error("The connection was interrupted. Is mousecmr serve still running?"));
    request.send(file);
  });
}

function showProgress(done, total, n) {
  bar.hidden = false;
  bar.querySelector("p").textContent = `${n} ${n === 1 ? "file" : "files"}, ${(total / 1e6).toFixed(1)} MB`;
  bar.querySelector("i").style.width = `${total ? (100 * done) / total : 100}%`;
}

async function upload(listing) {
  if (busy) return;
  busy = true;
  errorText.hidden = true;
  zone.classList.add("m-busy");
  try {
    await waitForSession();
    const files = (await listing).filter((f) => !f.path.split("/").some((part) => part.startsWith(".")));
    const total = files.reduce((sum, f) => sum + f.file.size, 0);
    const limit = props.value.limit_mb;
    if (!files.length) throw new Error("It contains no file.");
    const tooLarge = `These files have more than ${limit} MB in all. Send fewer at a time.`;
    if (total > limit * 1024 * 1024) throw new Error(tooLarge);
    const drop = drops++;
    const sent = new Map();
    const queue = [...files];
    showProgress(0, total, files.length);
    const sendQueued = async () => {
      for (let item = queue.shift(); item; item = queue.shift()) {
        const { path } = item;
        await send(drop, item, (bytes) => {
          sent.set(path, bytes);
          showProgress([...sent.values()].reduce((a, b) => a + b, 0), total, files.length);
        });
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, sendQueued));
  } catch (e) {
    errorText.textContent = e.message || "This cannot be sent.";
    errorText.hidden = false;
  }
  bar.hidden = true;
  zone.classList.remove("m-busy");
  busy = false;
  trigger("uploaded", {});
}

for (const kind of ["files", "folder"]) {
  const input = zone.querySelector(`[data-input=${kind}]`);
  zone.querySelector(`[data-choose=${kind}]`).addEventListener("click", (e) => {
    e.stopPropagation();
    input.click();
  });
  input.addEventListener("change", async () => {
    const files = [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
    if (files.length) await upload(files);
    input.value = "";
  });
}
for (const name of ["dragenter", "dragover"]) {
  zone.addEventListener(name, (e) => {
    e.preventDefault();
    zone.classList.add("m-over");
  });
}
for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("m-over"));
zone.addEventListener("drop", (e) => {
  e.preventDefault();
  const entries = [...e.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  upload(Promise.all(entries.map((entry) => listFiles(entry, ""))).then((lists) => lists.flat()));
});
// A file dropped beside the zone must not replace the page.
for (const name of ["dragover", "drop"]) window.addEventListener(name, (e) => e.preventDefault());
