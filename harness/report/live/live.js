const go = step => fetch('/continue?step=' + step, {method: 'POST'});
byId('continue').addEventListener('click', () => go(false));
byId('step').addEventListener('click', () => go(true));
// the token in the address was used
history.replaceState(null, '', '/');
const source = new EventSource('/events');
source.onopen = () => text('connection', 'live');
source.onmessage = message => take(JSON.parse(message.data));
source.onerror = () => {
  if (state.done) { source.close(); draw(); text('connection', 'the run is over'); }
  else text('connection', source.readyState === EventSource.CLOSED ? 'refused: reload the page' : 'connection lost, trying again');
};
