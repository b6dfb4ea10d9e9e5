// Shows the values under the pointer, or under the arrow keys when a chart has the focus.
for (const figure of document.querySelectorAll('.chart')) {
  const plot = figure.querySelector('.plot');
  const hair = figure.querySelector('.hair');
  const tip = figure.querySelector('.tip');
  const data = JSON.parse(figure.querySelector('script').textContent);
  let shown = -1;

  function show(index) {
    if (index < 0 || index >= data.at.length) return;
    shown = index;
    const left = data.at[index] * 100;
    hair.style.left = left + '%';
    hair.replaceChildren(...data.series.filter((s) => s.height[index] !== null).map((s) => {
      const dot = document.createElement('b');
      dot.className = s.class;
      dot.style.bottom = s.height[index] / 10 + '%';
      return dot;
    }));
    const line = (name, value) => {
      const p = document.createElement('p');
      p.append(...[name, value].map((text) => Object.assign(document.createElement('span'), { textContent: text })));
      return p;
    };
    tip.replaceChildren(line(data.when[index], ''), ...data.series.map((s) => line(s.label, s.text[index])));
    tip.style.left = left > 55 ? 'auto' : `calc(${left}% + 12px)`;
    tip.style.right = left > 55 ? `calc(${100 - left}% + 12px)` : 'auto';
    hair.style.display = tip.style.display = 'block';
  }
  function hide() {
    shown = -1;
    hair.style.display = tip.style.display = 'none';
  }

  plot.addEventListener('pointermove', (event) => {
    const box = plot.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width;
    let best = 0;
    data.at.forEach((x, i) => { if (Math.abs(x - at) < Math.abs(data.at[best] - at)) best = i; });
    show(best);
  });
  plot.addEventListener('pointerleave', hide);
  figure.addEventListener('blur', hide);
  figure.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); show(shown < 0 ? 0 : shown + step); }
  });
}
