// Plays a recording: times in milliseconds and changes of the view's state.
const recorded = JSON.parse(document.getElementById('recorded').textContent);
const step = Math.max(1, Math.round(recorded[recorded.length - 1][0] / 300));
const end = Math.ceil(recorded[recorded.length - 1][0] / step) * step;
let next = 0, at = 0, timer = null;

// Shows the state at a time. To go back, all changes until then are taken again.
function seek(time) {
  if (time < at) { next = 0; take({reset: true}); }
  at = time;
  // a copy, since the state that it becomes changes
  while (next < recorded.length && recorded[next][0] <= at) take(structuredClone(recorded[next++][1]));
  byId('at').value = at;
  const stage = state.stages[state.stages.length - 1];
  const where = seconds(at / 1000) + ' of ' + seconds(end / 1000) + (stage ? ', stage ' + stage.number + ' ' + stage.name : '');
  text('time', where);
  byId('at').setAttribute('aria-valuetext', where);
}

function play(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => {
    seek(Math.min(end, at + 100 * byId('speed').value));
    if (at >= end) play(false);
  }, 100) : null;
  text('run', on ? 'pause' : 'play');
}

byId('at').step = step;
byId('at').max = end;
byId('at').addEventListener('input', () => { play(false); seek(Number(byId('at').value)); });
byId('run').addEventListener('click', () => { if (!timer && at >= end) seek(0); play(!timer); });
seek(end);
