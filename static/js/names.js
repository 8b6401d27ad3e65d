// A long name is written smaller on a phone, so that none is cut: the classes of app/templating.py, length_class.
const STEPS = [[24, ""], [31, "long"], [40, "longer"]];

export function names(input) {
  if (!input) return;
  const fit = () => { input.className = (STEPS.find(([most]) => input.value.length <= most) ?? [0, "longest"])[1]; };
  for (const kind of ["input", "change"]) input.addEventListener(kind, fit);
}
