'use strict';
// Text from elsewhere becomes text nodes and attributes, never markup.
// The view is a page, or a part of one in a shadow tree.
const host = document.getElementById('player'), root = host ? host.shadowRoot : document;
const byId = id => root.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
function node(name, attributes, ...children) {
  const made = name.startsWith('svg:') ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) if (value !== null && value !== undefined) made.setAttribute(key, value);
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}
const text = (id, value) => { if (byId(id).textContent !== value) byId(id).textContent = value; };
const short = (value, longest) => value.length > longest ? value.slice(0, longest - 1) + '…' : value;
const percent = value => (value * 100).toFixed(1) + ' %';
const SIGNS = {passed: '✓', inconclusive: '?', 'not-judged': '–', running: '▶', failed: '✗'};
const sign = result => SIGNS[result] || '✗';
const plural = (count, word) => count + ' ' + word + (count === 1 ? '' : 's');
const seconds = value => value.toFixed(1) + ' s';

let state = {stages: [], log: []}, chosen = null, pending = new Set(), drawing = false;
const stageNow = () => state.stages[chosen ?? state.stages.length - 1];
const follows = () => chosen === null || chosen === state.stages.length - 1;

function take(patch) {
  if (patch.reset) { state = {stages: [], log: []}; chosen = null; byId('log').replaceChildren(); }
  for (const [key, value] of Object.entries(patch)) {
    if (key === 'stage') {
      const isNew = value[0] >= state.stages.length;
      // a recording has the fields that changed
      state.stages[value[0]] = {...state.stages[value[0]], ...value[1]};
      if (isNew) chosen = null;
    } else if (key === 'log') {
      state.log.push(...value);
      addLines(value);
    } else state[key] = value;
    pending.add(key);
  }
  if (patch.reset) ['head', 'stage', 'now', 'graph', 'progress', 'strip', 'paused'].forEach(key => pending.add(key));
  if (!drawing) { drawing = true; setTimeout(draw, 50); }
}

function draw() {
  drawing = false;
  const changed = pending;
  pending = new Set();
  const any = (...keys) => keys.some(key => changed.has(key));
  if (any('head', 'done')) drawHead();
  if (any('now', 'done')) text('now', state.now || '');
  if (any('paused')) drawPause();
  if (any('head', 'stage', 'stages', 'chosen')) drawStages();
  if (any('graph', 'stage', 'stages', 'chosen')) drawGraph();
  if (any('progress', 'stage', 'stages', 'chosen')) drawClaims();
  if (any('strip', 'stage', 'stages', 'chosen')) drawChange();
  if (any('stage', 'stages', 'chosen')) drawEdits();
}

function drawHead() {
  const head = state.head;
  if (host || !head || !head.scenario) return;
  const name = head.scenario.name || 'shiftcheck', result = state.done ? head.words : 'running';
  document.title = name + ': ' + result;
  byId('title').replaceChildren(mark(state.done ? head.result : 'running', result), ' ' + name + (state.done ? ': ' + head.note : ''));
  const versions = [['Kubernetes', 'kubernetes'], ['Istio', 'istio'], ['Envoy', 'envoy']]
    .filter(([, key]) => head.environment[key]).map(([what, key]) => what + ' ' + head.environment[key]);
  if (head.environment.nodes > 1) versions.push(head.environment.nodes + ' nodes');
  text('place', [head.place, ...versions, 'run ' + head.run].filter(Boolean).join(', '));
  byId('failure').hidden = !head.failure;
  if (head.failure) byId('failure').replaceChildren(node('strong', {}, head.failure.link), node('pre', {}, head.failure.message));
}

function mark(result, words) { return node('span', {class: 'mark ' + result}, sign(result) + ' ' + words); }

function drawPause() {
  if (host) return;
  const waits = Number.isInteger(state.paused);
  const was = byId('pause').hidden;
  byId('pause').hidden = !waits;
  if (waits) text('paused', 'paused after stage ' + state.paused);
  if (waits && was && document.activeElement === document.body) byId('continue').focus();
}

function drawStages() {
  const names = state.head && state.head.scenario ? state.head.scenario.stages : [];
  const list = byId('stages');
  const shown = chosen ?? state.stages.length - 1;
  const had = root.activeElement && root.activeElement.dataset.stage;
  list.replaceChildren(...names.map((name, index) => {
    const stage = state.stages[index];
    const result = !stage ? 'missed' : stage.result || 'running';
    const words = !stage ? (state.done ? 'not run' : 'to come') : stage.result ? seconds(stage.took) : 'running';
    const button = node('button', {type: 'button', class: result, 'data-stage': index + 1, 'aria-pressed': String(index === shown)},
      (stage ? sign(result) : '□') + ' ' + (index + 1) + ' ' + name, node('br'), node('span', {class: 'dim'}, words));
    button.disabled = !stage;
    button.addEventListener('click', () => { chosen = index === state.stages.length - 1 ? null : index; pending.add('chosen'); draw(); });
    return node('li', {}, button);
  }));
  if (had) { const again = list.querySelector('[data-stage="' + Number(had) + '"]'); if (again) again.focus(); }
  const stage = stageNow();
  byId('stage').replaceChildren(...(stage ? ['stage ' + stage.number + ' ' + stage.name + ' ', mark(stage.result || 'running', stage.words)] : ['no stage yet']));
}

function part(own) {
  const path = own.path === '/' ? '' : ' ' + own.path;
  return own.from + path + ' ' + percent(own.share) + (own.errors > 0 || own.health === 'Failure' ? ' ✗' : '');
}

// The same picture as in report.html: the client, the service below, and the workloads that answered.
function drawGraph() {
  const stage = stageNow();
  const graph = follows() ? state.graph : stage && stage.graph;
  if (!graph || !graph.nodes || !graph.nodes.length) {
    byId('graph').replaceChildren(node('p', {class: 'dim'}, 'no traffic yet'));
    byId('graph-text').replaceChildren();
    return;
  }
  const trunk = 32, left = 60, width = 82, lines = 148, line = 15, height = 40;
  let top = 196;
  const rows = graph.nodes.map(own => { const at = top; top += Math.max(height, line * (1 + Math.max(1, own.parts.length))) + 14; return [own, at]; });
  const t = (x, y, value, kind, more) => node('svg:text', {x, y, class: kind || null, ...more}, value);
  const live = follows() && graph.within === 'last second';
  const thick = share => (1.5 + 8 * share).toFixed(2);
  const shapes = [node('svg:line', {class: 'edge ' + graph.health, x1: trunk, x2: trunk, y1: 52, y2: 110, 'stroke-width': thick(graph.requests ? 1 : 0)})];
  const order = ['NA', 'Healthy', 'Degraded', 'Failure'];
  for (const [own, at] of [...rows].sort(([a], [b]) => order.indexOf(a.health) - order.indexOf(b.health))) {
    const end = at + height / 2;
    const d = `M ${trunk} 162 L ${trunk} ${end - 12} Q ${trunk} ${end} ${trunk + 12} ${end} L ${left} ${end}`;
    shapes.push(node('svg:path', {class: 'edge ' + own.health, d, 'stroke-width': thick(own.share), 'data-edge': own.name}));
    if (live && own.requests) shapes.push(node('svg:path', {class: 'flow', d, 'stroke-width': Math.max(2, 4 * own.share)}));
  }
  const rate = graph.requests.toLocaleString('en') + (live ? ' requests/s' : ' requests');
  const name = short(graph.client, 32);
  shapes.push(node('svg:circle', {class: 'node ' + graph.health, cx: trunk, cy: 30, r: 22}), t(trunk, 34, 'client', null, {'text-anchor': 'middle'}), t(left, 28, name),
    t(trunk + 12, 88, rate, 'dim'), node('svg:path', {class: 'node ' + graph.health, d: `M ${trunk} 110 l 26 26 l -26 26 l -26 -26 Z`}),
    t(trunk, 140, 'svc', 'small', {'text-anchor': 'middle'}), t(left + 4, 140, short(graph.service, 16)));
  const badges = [graph.rules.length && ['virtual service', graph.rules.join(', ')], graph.shifting && ['traffic shifting', 'a route splits requests'],
    graph.fault && ['fault injection', 'a route answers faults']].filter(Boolean);
  badges.forEach(([badge, why], index) => shapes.push(node('svg:g', {}, node('svg:title', {}, why),
    node('svg:rect', {class: 'badge', x: 184, y: 108 + 19 * index, width: 112, height: 17, rx: 8}), t(192, 121 + 19 * index, badge, 'small'))));
  const texts = [];
  for (const [own, at] of rows) {
    const workload = own.sidecar !== null, middle = left + width / 2;
    shapes.push(node('svg:rect', {class: 'node ' + own.health, x: left, y: at, width, height, rx: 6, 'stroke-dasharray': workload ? null : '4 3'}));
    if (workload) {
      shapes.push(t(middle, at + 17, short(own.version, 12), null, {'text-anchor': 'middle'}),
        t(middle, at + 32, own.ready + ' of ' + own.pods + ' ready', 'dim small', {'text-anchor': 'middle'}), t(lines, at + 11, short(own.name, 24), 'small'));
      if (!own.sidecar) shapes.push(node('svg:rect', {class: 'badge', x: left + 10, y: at - 9, width: 62, height: 15, rx: 7}), t(middle, at + 2, 'no sidecar', 'small Failure', {'text-anchor': 'middle'}));
    } else shapes.push(t(middle, at + 24, 'no workload', 'small', {'text-anchor': 'middle'}), t(lines, at + 11, short(own.name, 24), 'small'));
    if (own.health === 'NA') shapes.push(t(lines, at + 11 + line, 'deployed, unused', 'small NA'));
    own.parts.forEach((of, index) => shapes.push(t(lines, at + 11 + line * (index + 1), short(part(of), 26), 'small ' + of.health)));
    texts.push((workload ? own.name + ' (' + own.version + ')' : 'no workload (' + own.name + ')') + ': '
      + (own.parts.length ? own.parts.map(part).join(', ') + (own.errors ? '; ' + plural(own.errors, 'error') : '') : 'deployed, no requests'));
  }
  const label = graph.client + ' to ' + graph.service + ', ' + graph.within + ', ' + rate + ': ' + texts.join('; ');
  byId('graph').replaceChildren(node('svg:svg', {viewBox: `0 0 300 ${top}`, role: 'img', 'aria-label': label}, ...shapes),
    node('p', {class: 'dim note'}, (graph.within || '') + (badges.length ? '; ' + graph.rules.join(', ') : '')));
  byId('graph-text').replaceChildren(...[graph.client + ' to ' + graph.service + ': ' + rate, ...texts].map(value => node('li', {}, value)));
}

function drawClaims() {
  const stage = stageNow();
  const list = stage && stage.claims.length ? stage.claims.map(claim => claimOf(claim, true))
    : follows() && state.progress ? state.progress.map(claim => claimOf(claim, false)) : [];
  byId('claims').replaceChildren(...(list.length ? list : [node('p', {class: 'dim'}, 'none decided yet')]));
}

function claimOf(claim, isJudged) {
  const subject = claim.subject || claim.from + (claim.path === '/' ? '' : ' at ' + claim.path);
  const result = claim.result || 'running';
  const made = node('div', {class: 'claim', 'data-claim': subject + ': ' + claim.claim, 'data-result': result},
    mark(result, claim.result || 'sampling'), ' ', node('strong', {}, subject), ': ' + claim.claim,
    node('div', {class: 'dim'}, claim.reason || plural(claim.requests, 'request')));
  for (const line of [claim.link, ...(claim.hints || []).map(hint => 'because ' + hint)].filter(Boolean)) made.append(node('div', {class: 'because'}, line));
  // the counts of a claim that an excluded answer has ended say nothing of shares
  if (claim.stop !== 'excluded') for (const share of claim.shares) made.append(shareOf(share, claim.requests));
  if (isJudged) made.append(...claim.paths.filter(path => path.points.length > 1).map(pathOf));
  else if (claim.trail.length > 1) made.append(trailOf(claim));
  return made;
}

function shareOf(share, requests) {
  const seen = requests ? share.count / requests : 0, [low, high] = share.interval, x = value => (value * 100).toFixed(2);
  const says = percent(seen) + ' (' + (low * 100).toFixed(1) + ' to ' + (high * 100).toFixed(1) + ') of ' + requests + ', claimed ' + +(share.claimed * 100).toFixed(2) + ' %';
  const bar = node('svg:svg', {viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true'},
    node('svg:rect', {x: 0, y: 3, width: 100, height: 4, class: 'box'}), node('svg:rect', {x: x(low), y: 0, width: Math.max(.6, (high - low) * 100).toFixed(2), height: 10, class: 'band'}),
    node('svg:rect', {x: x(Math.min(seen, .99)), y: 0, width: 1, height: 10, class: 'dot'}),
    node('svg:line', {x1: x(share.claimed), x2: x(share.claimed), y1: 0, y2: 10, class: 'axis', 'stroke-width': 1}));
  return node('div', {class: 'share'}, node('span', {}, share.part), bar, node('span', {class: 'says'}, says));
}

// The interval of each share by the number of requests: it narrows until the verdict.
function trailOf(claim) {
  const most = claim.trail[claim.trail.length - 1][0], x = n => (300 * n / most).toFixed(1), y = value => (80 * (1 - value) + 2).toFixed(1);
  const shapes = claim.shares.slice(0, 1).flatMap((share, index) => {
    const at = claim.trail.map(([n, parts]) => [n, ...parts[index]]);
    const upper = at.map(([n, , , high]) => x(n) + ',' + y(high)), lower = at.map(([n, , low]) => x(n) + ',' + y(low)).reverse();
    return [node('svg:polygon', {class: 'band', points: [...upper, ...lower].join(' ')}),
      node('svg:polyline', {class: 'mean', points: at.map(([n, mean]) => x(n) + ',' + y(mean)).join(' ')}),
      node('svg:line', {class: 'claimed', x1: 0, x2: 300, y1: y(share.claimed), y2: y(share.claimed)})];
  });
  return node('svg:svg', {viewBox: '0 0 300 84', role: 'img', 'aria-label': 'share of ' + (claim.shares[0] || {}).part + ' with its interval, by requests'}, ...shapes);
}

// The path of a sequential test between the lines that stop it, as in report.html.
function pathOf(path) {
  const last = path.points[path.points.length - 1], end = Math.max(10, last[0] * 1.15);
  const x = n => (42 + 252 * n / end).toFixed(1), y = value => (6 + 100 * (1 - Math.min(1, Math.max(0, value)))).toFixed(1);
  const steps = [...Array(48)].map((_, index) => end * (index + 1) / 48), bound = ([start, slope], n) => start / n + slope;
  const curve = line => steps.filter(n => bound(line, n) >= 0 && bound(line, n) <= 1).map(n => x(n) + ',' + y(bound(line, n))).join(' ');
  const inside = steps.filter(n => bound(path.passes_above, n) <= bound(path.passes_below, n));
  const corridor = [...inside.map(n => x(n) + ',' + y(bound(path.passes_below, n))), ...[...inside].reverse().map(n => x(n) + ',' + y(bound(path.passes_above, n)))];
  const label = 'share of ' + path.part + ' after each of ' + last[0] + ' ' + path.of + '; rejected beyond the dashed lines, accepted in the shaded area';
  return node('svg:svg', {viewBox: '0 0 300 124', role: 'img', 'aria-label': label},
    ...[0, .5, 1].flatMap(value => [node('svg:line', {class: 'axis', x1: 42, x2: 294, y1: y(value), y2: y(value)}),
      node('svg:text', {class: 'dim small', x: 38, y: +y(value) + 4, 'text-anchor': 'end'}, value * 100 + ' %')]),
    corridor.length ? node('svg:polygon', {class: 'passes', points: corridor.join(' ')}) : null,
    node('svg:polyline', {class: 'fails', points: curve(path.fails_above)}), node('svg:polyline', {class: 'fails', points: curve(path.fails_below)}),
    node('svg:line', {class: 'claimed', x1: 42, x2: 294, y1: y(path.claimed), y2: y(path.claimed)}),
    node('svg:polyline', {class: 'path', points: path.points.map(([n, hits]) => x(n) + ',' + y(hits / n)).join(' ')}),
    node('svg:circle', {class: 'dot', cx: x(last[0]), cy: y(last[1] / last[0]), r: 4}),
    node('svg:text', {class: 'dim small', x: 294, y: 120, 'text-anchor': 'end'}, path.part + ', ' + last[0] + ' ' + path.of));
}

// The answers over time while the stage was applied, a row for each population.
function drawChange() {
  const stage = stageNow(), seen = stage && stage.transition;
  const moments = seen ? seen.timeline : follows() && state.strip || [];
  const froms = [...new Set(moments.map(moment => moment.from))];
  if (!moments.length) return byId('change').replaceChildren(node('p', {class: 'dim'}, 'none'));
  const steps = Math.max(...moments.map(moment => moment.step)) + 1, total = own => own.old + own.both + own.new + own.errors;
  const most = Math.max(...moments.map(total)), sum = key => moments.reduce((all, own) => all + own[key], 0);
  const rows = froms.flatMap(from => {
    const own = moments.filter(moment => moment.from === from), errors = own.reduce((all, moment) => all + moment.errors, 0);
    const bars = own.flatMap(moment => {
      let y = most;
      return [['error', 'errors'], ['old', 'old'], ['both', 'both'], ['new', 'new']].filter(([, key]) => moment[key]).map(([kind, key]) => {
        y -= moment[key];
        return node('svg:rect', {class: kind, x: moment.step, y, width: .9, height: moment[key]});
      });
    });
    return [node('div', {}, from + (errors ? ', ' + plural(errors, 'error') : '')),
      node('svg:svg', {class: 'track', viewBox: `0 0 ${steps} ${most}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': 'answers to ' + from + ' by time: '
        + own.reduce((all, moment) => all + total(moment), 0) + ', ' + plural(errors, 'error')}, ...bars)];
  });
  const key = [['old', 'as before'], ['both', 'as before and after'], ['new', 'as after'], ['error', 'neither']];
  byId('change').replaceChildren(node('p', {class: 'note', id: 'change-text'}, plural(sum('old') + sum('both') + sum('new') + sum('errors'), 'request') + ', ' + plural(sum('errors'), 'error')),
    ...rows, node('div', {class: 'dim times'}, node('span', {}, '0 s'), node('span', {}, seconds(steps / 10))),
    node('p', {class: 'dim key'}, ...key.flatMap(([kind, words]) => [node('svg:svg', {viewBox: '0 0 10 10', class: 'swatch', width: 10, height: 10}, node('svg:rect', {class: kind, width: 10, height: 10})), words])));
}

function drawEdits() {
  const stage = stageNow(), edits = stage ? stage.edits : [];
  byId('edits').replaceChildren(...(edits.length ? edits.map(edit => {
    const made = node('details', {}, node('summary', {}, edit.object + ' ' + edit.what + ' ', edit.place ? node('code', {class: 'dim'}, edit.place) : null));
    made.open = edit.what === 'changed';
    if (edit.diff.length) made.append(node('pre', {class: 'diff', tabindex: 0}, ...edit.diff.map(line =>
      node('span', {class: line.startsWith('+') ? 'plus' : line.startsWith('-') ? 'minus' : null}, line))));
    return made;
  }) : [node('p', {class: 'dim'}, 'none')]));
}

function addLines(lines) {
  const log = byId('log'), isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  log.append(...lines.map(line => node('li', {}, node('time', {}, line.at), line.text)));
  while (log.children.length > 300) log.firstChild.remove();
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}
