// A file dropped on the text becomes the text, as if it had been pasted.
export function dropping(area) {
  area.addEventListener("dragover", (event) => event.preventDefault());
  area.addEventListener("drop", async (event) => {
    const [file] = event.dataTransfer.files;
    if (!file) return;
    event.preventDefault();
    area.value = await file.text();
    area.form.requestSubmit();
  });
}
