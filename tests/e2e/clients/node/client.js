// client.js PROTOCOL COMPRESSION ENDPOINT…: the same spans to every endpoint, and on stdout what they were.
'use strict';

const api = require('@opentelemetry/api');
const { TraceState } = require('@opentelemetry/core');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BatchSpanProcessor } = require('@opentelemetry/sdk-trace-base');
const { NodeTracerProvider } = require('@opentelemetry/sdk-trace-node');

const [protocol, compression, ...endpoints] = process.argv.slice(2);
const packages = {
  'grpc': '@opentelemetry/exporter-trace-otlp-grpc',
  'http/protobuf': '@opentelemetry/exporter-trace-otlp-proto',
  'http/json': '@opentelemetry/exporter-trace-otlp-http',
};
const { OTLPTraceExporter } = require(packages[protocol]);

function exporter(endpoint) {
  return new OTLPTraceExporter({ url: `http://${endpoint}${protocol === 'grpc' ? '' : '/v1/traces'}`, compression });
}

// ---- what was sent, as the SDK itself says ----
function double(d) {
  return Number.isFinite(d) ? d : String(d);
}

function value(v) {
  switch (typeof v) {
    case 'string': return { string: v };
    case 'boolean': return { bool: v };
    // JavaScript has one kind of number; OTLP has two, and the SDK sends whole ones as integers.
    case 'number': return Number.isInteger(v) ? { int: BigInt(v).toString() } : { double: double(v) };
  }
  if (v === null || v === undefined)
    return { empty: true };
  if (v instanceof Uint8Array)
    return { bytes: Buffer.from(v).toString('hex') };
  if (Array.isArray(v))
    return { array: v.map(value) };
  return { map: attributes(v) };
}

function attributes(a) {
  return Object.entries(a ?? {}).map(([k, v]) => [k, value(v)]);
}

function nanoseconds([seconds, rest]) {
  return (BigInt(seconds) * 1000000000n + BigInt(rest)).toString();
}

function said(s) {
  const context = s.spanContext();
  return {
    trace_id: context.traceId, span_id: context.spanId, parent_span_id: s.parentSpanContext?.spanId ?? '',
    name: s.name, kind: api.SpanKind[s.kind], start: nanoseconds(s.startTime), end: nanoseconds(s.endTime),
    trace_state: context.traceState?.serialize() ?? '',
    status: { code: api.SpanStatusCode[s.status.code], message: s.status.message ?? '' },
    attributes: attributes(s.attributes),
    events: s.events.map(e => ({ name: e.name, time: nanoseconds(e.time), attributes: attributes(e.attributes) })),
    links: s.links.map(l => ({
      trace_id: l.context.traceId, span_id: l.context.spanId, trace_state: l.context.traceState?.serialize() ?? '',
      attributes: attributes(l.attributes),
    })),
    resource: attributes(s.resource.attributes),
    scope: { name: s.instrumentationScope.name, version: s.instrumentationScope.version ?? '' },
  };
}

const spans = [];
const manifest = {
  onStart() {},
  onEnd(span) { spans.push(said(span)); },
  async forceFlush() {},
  async shutdown() {},
};

// ---- a small shop ----
const everyType = {
  'text': 'plain', 'text.empty': '', 'text.unicode': 'größer 日本語 🐟 \u0001\t\n',
  'text.long': 'a fish weir lets the river through 🐟 '.repeat(1000), 'größe': 'a key outside of ASCII',
  'yes': true, 'no': false, 'int.min': Number.MIN_SAFE_INTEGER, 'int.max': Number.MAX_SAFE_INTEGER, 'int.zero': 0,
  'double': 0.1, 'double.large': 2 ** 52 - 0.5, 'double.small': -5e-324,
  'texts': ['a', '', 'ü'], 'bools': [true, false], 'ints': [Number.MIN_SAFE_INTEGER, 0], 'doubles': [0.5, -0.25],
  'none': [],
  // As JSON, the SDK writes null for these, which the Collector refuses.
  ...(protocol === 'http/json' ? {} : { 'double.inf': Infinity, 'double.nan': NaN }),
};

function remoteParent(i) {
  const hex = process.hrtime.bigint().toString(16).padStart(32, '5');
  return api.trace.setSpanContext(api.ROOT_CONTEXT, {
    traceId: hex, spanId: `eee19b7ec3c1b1${(0x10 + i).toString(16)}`, traceFlags: api.TraceFlags.SAMPLED,
    isRemote: true, traceState: new TraceState(`vendor=t${i},other=a-b_c`),
  });
}

function order(i, front, stock, before) {
  const parent = i % 3 === 2 ? remoteParent(i) : api.ROOT_CONTEXT;
  const links = before ? [{ context: before.spanContext(), attributes: { reason: 'again', n: i } }] : [];
  const root = front.startSpan(`GET /orders/{id} ü${i % 2}`, {
    kind: api.SpanKind.SERVER, links, attributes: { 'http.request.method': 'GET', 'url.path': `/orders/${i}` },
  }, parent);
  const here = api.trace.setSpan(parent, root);
  const work = front.startSpan('everything', { attributes: everyType }, here);
  work.addEvent('began', { at: i, ok: true, tags: ['x', 'y'] });
  work.addEvent('no attributes');
  const call = front.startSpan('GET stock', { kind: api.SpanKind.CLIENT }, here);
  const served = stock.startSpan('GET /stock', { kind: api.SpanKind.SERVER }, api.trace.setSpan(here, call));
  const put = stock.startSpan('orders publish', { kind: api.SpanKind.PRODUCER }, api.trace.setSpan(here, served));
  const taken = stock.startSpan('orders process', { kind: api.SpanKind.CONSUMER }, api.trace.setSpan(here, put));
  served.recordException(new RangeError('no stock — größer'));
  served.setStatus({ code: api.SpanStatusCode.ERROR, message: 'out of stock: größer' });
  call.setStatus({ code: api.SpanStatusCode.OK });
  for (const span of [taken, put, served, call, work, root])
    span.end();
  return root;
}

function provider(service) {
  return new NodeTracerProvider({
    resource: resourceFromAttributes({
      'service.name': service, 'service.version': '1.2.3-ü', 'deploy.parts': ['a', 'b'], 'deploy.size': 7,
      'deploy.share': 0.25, 'deploy.live': true,
    }),
    spanProcessors: [manifest,
      ...endpoints.map(e => new BatchSpanProcessor(exporter(e), { scheduledDelayMillis: 200 }))],
  });
}

async function main() {
  const problems = [];
  const quiet = () => {};
  api.diag.setLogger({
    error: (...text) => problems.push(text.join(' ')), warn: quiet, info: quiet, debug: quiet, verbose: quiet,
  });
  const providers = [provider('shop-front'), provider('shop-stock')];
  const front = providers[0].getTracer('shop.front', '1.0.0');
  const schemaUrl = 'https://opentelemetry.io/schemas/1.26.0';
  const stock = providers[1].getTracer('shop.stock-größe', '2.0', { schemaUrl });
  let before;
  for (let i = 0; i < 9; i++)
    before = order(i, front, stock, before);
  const whole = front.startSpan('a trace of several requests', {}, api.ROOT_CONTEXT);
  const here = api.trace.setSpan(api.ROOT_CONTEXT, whole);
  for (let i = 0; i < 700; i++)
    front.startSpan(`step ${i % 7}`, { attributes: { i } }, here).end();
  whole.end();
  for (const p of providers) {
    await p.forceFlush();
    await p.shutdown();
  }
  if (problems.length > 0)
    throw new Error(`the SDK could not export everything: ${problems.join('; ')}`);
  process.stdout.write(JSON.stringify({ spans }));
}

main().catch(e => {
  console.error(e);
  process.exitCode = 1;
});
