//! client PROTOCOL COMPRESSION ENDPOINT…: the same spans to every endpoint, and on stdout what they were.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Array, Context, InstrumentationScope, KeyValue, SpanId, TraceId, Value};
use opentelemetry_otlp::{Compression, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, SpanData, SpanProcessor,
};
use opentelemetry_sdk::Resource;
use serde_json::{json, Value as Json};

fn exporter(protocol: &str, compression: &str, endpoint: &str) -> SpanExporter {
    let gzip = compression == "gzip";
    if protocol == "grpc" {
        let builder = SpanExporter::builder().with_tonic().with_endpoint(format!("http://{endpoint}"));
        let builder = if gzip { builder.with_compression(Compression::Gzip) } else { builder };
        return builder.build().expect("a gRPC exporter");
    }
    let kind = if protocol == "http/json" { Protocol::HttpJson } else { Protocol::HttpBinary };
    let builder =
        SpanExporter::builder().with_http().with_protocol(kind).with_endpoint(format!("http://{endpoint}/v1/traces"));
    let builder = if gzip { builder.with_compression(Compression::Gzip) } else { builder };
    builder.build().expect("an HTTP exporter")
}

// ---- what was sent, as the SDK itself says ----

fn double(d: f64) -> Json {
    if d.is_finite() {
        json!({ "double": d })
    } else {
        json!({ "double": d.to_string().to_lowercase() })
    }
}

fn value(v: &Value) -> Json {
    match v {
        Value::Bool(b) => json!({ "bool": b }),
        Value::I64(i) => json!({ "int": i.to_string() }),
        Value::F64(d) => double(*d),
        Value::String(s) => json!({ "string": s.as_str() }),
        Value::Array(Array::Bool(a)) => json!({ "array": a.iter().map(|b| json!({ "bool": b })).collect::<Vec<_>>() }),
        Value::Array(Array::I64(a)) => {
            json!({ "array": a.iter().map(|i| json!({ "int": i.to_string() })).collect::<Vec<_>>() })
        }
        Value::Array(Array::F64(a)) => json!({ "array": a.iter().map(|d| double(*d)).collect::<Vec<_>>() }),
        Value::Array(Array::String(a)) => {
            json!({ "array": a.iter().map(|s| json!({ "string": s.as_str() })).collect::<Vec<_>>() })
        }
        other => panic!("an attribute of the kind {other:?}"),
    }
}

fn attributes(list: &[KeyValue]) -> Json {
    list.iter().map(|kv| json!([kv.key.as_str(), value(&kv.value)])).collect()
}

fn nanoseconds(t: SystemTime) -> String {
    t.duration_since(UNIX_EPOCH).expect("a time after 1970").as_nanos().to_string()
}

fn said(s: &SpanData, resource: &Resource) -> Json {
    let (code, message) = match &s.status {
        Status::Unset => ("UNSET", ""),
        Status::Ok => ("OK", ""),
        Status::Error { description } => ("ERROR", description.as_ref()),
    };
    let parent = if s.parent_span_id == SpanId::INVALID { String::new() } else { s.parent_span_id.to_string() };
    json!({
        "trace_id": s.span_context.trace_id().to_string(), "span_id": s.span_context.span_id().to_string(),
        "parent_span_id": parent, "name": s.name, "kind": format!("{:?}", s.span_kind).to_uppercase(),
        "start": nanoseconds(s.start_time), "end": nanoseconds(s.end_time),
        "trace_state": s.span_context.trace_state().header(), "status": { "code": code, "message": message },
        "attributes": attributes(&s.attributes),
        "events": s.events.iter().map(|e| json!({
            "name": e.name, "time": nanoseconds(e.timestamp), "attributes": attributes(&e.attributes),
        })).collect::<Vec<_>>(),
        "links": s.links.iter().map(|l| json!({
            "trace_id": l.span_context.trace_id().to_string(), "span_id": l.span_context.span_id().to_string(),
            "trace_state": l.span_context.trace_state().header(), "attributes": attributes(&l.attributes),
        })).collect::<Vec<_>>(),
        "resource": resource.iter().map(|(k, v)| json!([k.as_str(), value(v)])).collect::<Vec<_>>(),
        "scope": {
            "name": s.instrumentation_scope.name(), "version": s.instrumentation_scope.version().unwrap_or(""),
        },
    })
}

#[derive(Debug)]
struct Manifest {
    spans: Arc<Mutex<Vec<Json>>>,
    resource: Resource,
}

impl SpanProcessor for Manifest {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.spans.lock().expect("the list").push(said(&span, &self.resource));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.clone();
    }
}

// ---- a small shop ----

fn strings(list: &[&'static str]) -> Value {
    Value::Array(Array::String(list.iter().map(|s| (*s).into()).collect()))
}

fn every_type(json: bool) -> Vec<KeyValue> {
    let mut all = vec![
        KeyValue::new("text", "plain"),
        KeyValue::new("text.empty", ""),
        KeyValue::new("text.unicode", "größer 日本語 🐟 \u{1}\t\n"),
        KeyValue::new("text.long", "a fish weir lets the river through 🐟 ".repeat(1000)),
        KeyValue::new("größe", "a key outside of ASCII"),
        KeyValue::new("yes", true),
        KeyValue::new("no", false),
        KeyValue::new("int.min", i64::MIN),
        KeyValue::new("int.max", i64::MAX),
        KeyValue::new("int.zero", 0),
        KeyValue::new("double", 0.1),
        KeyValue::new("double.large", f64::MAX),
        KeyValue::new("double.small", -f64::from_bits(1)),
        KeyValue::new("double.whole", 3.0),
        KeyValue::new("texts", strings(&["a", "", "ü"])),
        KeyValue::new("bools", Value::Array(Array::Bool(vec![true, false]))),
        KeyValue::new("ints", Value::Array(Array::I64(vec![i64::MIN, 0, i64::MAX]))),
        KeyValue::new("doubles", Value::Array(Array::F64(vec![0.5, -0.0]))),
        KeyValue::new("none", strings(&[])),
    ];
    if !json {
        // As JSON, the SDK writes them as strings, which the Collector refuses, although JSON has no other way.
        all.push(KeyValue::new("double.inf", f64::INFINITY));
        all.push(KeyValue::new("double.nan", f64::NAN));
    }
    all
}

fn remote_parent(i: u64) -> Context {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_nanos();
    let state = TraceState::from_key_value([("vendor", format!("t{i}")), ("other", "a-b_c".to_string())]);
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from((now << 64) | u128::from(i + 1)),
        SpanId::from(0xeee1_9b7e_c3c1_b110 + i),
        TraceFlags::SAMPLED,
        true,
        state.expect("a tracestate"),
    ))
}

fn start(tracer: &SdkTracer, name: &'static str, kind: SpanKind, parent: &Context) -> Context {
    parent.with_span(tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), parent))
}

fn order(i: u64, json: bool, front: &SdkTracer, stock: &SdkTracer, before: Option<SpanContext>) -> SpanContext {
    let parent = if i % 3 == 2 { remote_parent(i) } else { Context::new() };
    let mut builder = SpanBuilder::from_name(format!("GET /orders/{{id}} ü{}", i % 2))
        .with_kind(SpanKind::Server)
        .with_attributes([
            KeyValue::new("http.request.method", "GET"),
            KeyValue::new("url.path", format!("/orders/{i}")),
        ]);
    if let Some(b) = before {
        let why = vec![KeyValue::new("reason", "again"), KeyValue::new("n", i as i64)];
        builder = builder.with_links(vec![Link::new(b, why, 0)]);
    }
    let root = parent.with_span(front.build_with_context(builder, &parent));
    let work = start(front, "everything", SpanKind::Internal, &root);
    work.span().set_attributes(every_type(json));
    let tags = KeyValue::new("tags", strings(&["x", "y"]));
    work.span().add_event("began", vec![KeyValue::new("at", i as i64), KeyValue::new("ok", true), tags]);
    work.span().add_event("no attributes", vec![]);
    let call = start(front, "GET stock", SpanKind::Client, &root);
    let served = start(stock, "GET /stock", SpanKind::Server, &call);
    let put = start(stock, "orders publish", SpanKind::Producer, &served);
    let taken = start(stock, "orders process", SpanKind::Consumer, &put);
    served.span().record_error(&std::io::Error::other("no stock — größer"));
    served.span().set_status(Status::error("out of stock: größer"));
    call.span().set_status(Status::Ok);
    for context in [&taken, &put, &served, &call, &work, &root] {
        context.span().end();
    }
    let context = root.span().span_context().clone();
    context
}

fn provider(service: &'static str, spans: &Arc<Mutex<Vec<Json>>>, arguments: &[String]) -> SdkTracerProvider {
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service),
            KeyValue::new("service.version", "1.2.3-ü"),
            KeyValue::new("deploy.parts", strings(&["a", "b"])),
            KeyValue::new("deploy.size", 7),
            KeyValue::new("deploy.share", 0.25),
            KeyValue::new("deploy.live", true),
        ])
        .build();
    let mut builder = SdkTracerProvider::builder()
        .with_span_processor(Manifest { spans: spans.clone(), resource: Resource::builder_empty().build() })
        .with_resource(resource);
    for endpoint in &arguments[2..] {
        let config = BatchConfigBuilder::default().with_scheduled_delay(Duration::from_millis(200)).build();
        let batches = BatchSpanProcessor::builder(exporter(&arguments[0], &arguments[1], endpoint));
        builder = builder.with_span_processor(batches.with_batch_config(config).build());
    }
    builder.build()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments[0] == "http/json";
    // tonic needs a runtime to live in; the HTTP exporter blocks, which must not happen inside of one
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let inside = (arguments[0] == "grpc").then(|| runtime.enter());
    let spans = Arc::new(Mutex::new(Vec::new()));
    let providers = [provider("shop-front", &spans, &arguments), provider("shop-stock", &spans, &arguments)];
    let front =
        providers[0].tracer_with_scope(InstrumentationScope::builder("shop.front").with_version("1.0.0").build());
    let stock = providers[1].tracer_with_scope(
        InstrumentationScope::builder("shop.stock-größe")
            .with_version("2.0")
            .with_schema_url("https://opentelemetry.io/schemas/1.26.0")
            .build(),
    );
    let mut before = None;
    for i in 0..9 {
        before = Some(order(i, json, &front, &stock, before));
    }
    let whole = start(&front, "a trace of several requests", SpanKind::Internal, &Context::new());
    for i in 0..700i64 {
        let step = SpanBuilder::from_name(format!("step {}", i % 7)).with_attributes([KeyValue::new("i", i)]);
        front.build_with_context(step, &whole).end();
    }
    whole.span().end();
    for p in &providers {
        p.force_flush().and_then(|()| p.shutdown()).expect("the SDK exports everything");
    }
    drop(inside);
    println!("{}", json!({ "spans": *spans.lock().expect("the list") }));
}
