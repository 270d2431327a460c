// client PROTOCOL COMPRESSION ENDPOINT…: the same spans to every endpoint, and on stdout what they were.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func exporter(protocol, compression, endpoint string) (*otlptrace.Exporter, error) {
	if protocol == "grpc" {
		options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(endpoint), otlptracegrpc.WithInsecure()}
		if compression == "gzip" {
			options = append(options, otlptracegrpc.WithCompressor("gzip"))
		}
		return otlptracegrpc.New(context.Background(), options...)
	}
	kind := otlptracehttp.NoCompression
	if compression == "gzip" {
		kind = otlptracehttp.GzipCompression
	}
	return otlptracehttp.New(context.Background(), otlptracehttp.WithEndpoint(endpoint),
		otlptracehttp.WithInsecure(), otlptracehttp.WithCompression(kind))
}

// ---- what was sent, as the SDK itself says ----

type object = map[string]any

func double(d float64) any {
	switch {
	case math.IsNaN(d):
		return "nan"
	case math.IsInf(d, 1):
		return "inf"
	case math.IsInf(d, -1):
		return "-inf"
	}
	return d
}

func array[T any](values []T, kind string, as func(T) any) object {
	list := []any{}
	for _, v := range values {
		list = append(list, object{kind: as(v)})
	}
	return object{"array": list}
}

func value(v attribute.Value) object {
	same := func(s string) any { return s }
	whole := func(i int64) any { return fmt.Sprint(i) }
	switch v.Type() {
	case attribute.STRING:
		return object{"string": v.AsString()}
	case attribute.BOOL:
		return object{"bool": v.AsBool()}
	case attribute.INT64:
		return object{"int": whole(v.AsInt64())}
	case attribute.FLOAT64:
		return object{"double": double(v.AsFloat64())}
	case attribute.STRINGSLICE:
		return array(v.AsStringSlice(), "string", same)
	case attribute.BOOLSLICE:
		return array(v.AsBoolSlice(), "bool", func(b bool) any { return b })
	case attribute.INT64SLICE:
		return array(v.AsInt64Slice(), "int", whole)
	case attribute.FLOAT64SLICE:
		return array(v.AsFloat64Slice(), "double", double)
	}
	log.Fatalf("an attribute of type %v", v.Type())
	return nil
}

func attributes(list []attribute.KeyValue) []any {
	out := []any{}
	for _, kv := range list {
		out = append(out, []any{string(kv.Key), value(kv.Value)})
	}
	return out
}

func nanoseconds(t time.Time) string { return fmt.Sprint(t.UnixNano()) }

func said(s sdk.ReadOnlySpan) object {
	events, links, parent := []any{}, []any{}, ""
	for _, e := range s.Events() {
		events = append(events, object{"name": e.Name, "time": nanoseconds(e.Time), "attributes": attributes(e.Attributes)})
	}
	for _, l := range s.Links() { // no trace_state: the exporter does not send that of a link
		links = append(links, object{"trace_id": l.SpanContext.TraceID().String(),
			"span_id": l.SpanContext.SpanID().String(), "attributes": attributes(l.Attributes)})
	}
	if s.Parent().HasSpanID() {
		parent = s.Parent().SpanID().String()
	}
	scope := s.InstrumentationScope()
	return object{
		"trace_id": s.SpanContext().TraceID().String(), "span_id": s.SpanContext().SpanID().String(),
		"parent_span_id": parent, "name": s.Name(), "kind": strings.ToUpper(s.SpanKind().String()),
		"start": nanoseconds(s.StartTime()), "end": nanoseconds(s.EndTime()),
		"trace_state": s.SpanContext().TraceState().String(),
		"status":      object{"code": strings.ToUpper(s.Status().Code.String()), "message": s.Status().Description},
		"attributes":  attributes(s.Attributes()), "events": events, "links": links,
		"resource": attributes(s.Resource().Attributes()), "scope": object{"name": scope.Name, "version": scope.Version},
	}
}

type manifest struct {
	lock  sync.Mutex
	spans []object
}

func (m *manifest) OnStart(context.Context, sdk.ReadWriteSpan) {}
func (m *manifest) Shutdown(context.Context) error             { return nil }
func (m *manifest) ForceFlush(context.Context) error           { return nil }
func (m *manifest) OnEnd(s sdk.ReadOnlySpan) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.spans = append(m.spans, said(s))
}

// ---- a small shop ----

var everyType = []attribute.KeyValue{
	attribute.String("text", "plain"), attribute.String("text.empty", ""),
	attribute.String("text.unicode", "größer 日本語 🐟 \u0001\t\n"),
	attribute.String("text.long", strings.Repeat("a fish weir lets the river through 🐟 ", 1000)),
	attribute.String("größe", "a key outside of ASCII"), attribute.Bool("yes", true), attribute.Bool("no", false),
	attribute.Int64("int.min", math.MinInt64), attribute.Int64("int.max", math.MaxInt64), attribute.Int64("int.zero", 0),
	attribute.Float64("double", 0.1), attribute.Float64("double.large", math.MaxFloat64),
	attribute.Float64("double.small", -math.SmallestNonzeroFloat64), attribute.Float64("double.whole", 3),
	attribute.Float64("double.inf", math.Inf(1)), attribute.Float64("double.nan", math.NaN()),
	attribute.StringSlice("texts", []string{"a", "", "ü"}), attribute.BoolSlice("bools", []bool{true, false}),
	attribute.Int64Slice("ints", []int64{math.MinInt64, 0, math.MaxInt64}),
	attribute.Float64Slice("doubles", []float64{0.5, math.Copysign(0, -1)}), attribute.StringSlice("none", []string{}),
}

func remoteParent(i int) context.Context {
	state, err := trace.ParseTraceState(fmt.Sprintf("vendor=t%d,other=a-b_c", i))
	if err != nil {
		log.Fatal(err)
	}
	now := time.Now().UnixNano()
	var id trace.TraceID
	for n := range 8 {
		id[n], id[n+8] = byte(now>>(8*n)), byte(i+n)
	}
	return trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: trace.SpanID{0xee, 0xe1, 0x9b, 0x7e, 0xc3, 0xc1, 0xb1, byte(i)},
		TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true}))
}

func order(i int, front, stock trace.Tracer, before trace.Span) trace.Span {
	parent := context.Background()
	if i%3 == 2 {
		parent = remoteParent(i)
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", "GET"), attribute.String("url.path", fmt.Sprintf("/orders/%d", i)))}
	if before != nil {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: before.SpanContext(),
			Attributes: []attribute.KeyValue{attribute.String("reason", "again"), attribute.Int("n", i)}}))
	}
	here, root := front.Start(parent, fmt.Sprintf("GET /orders/{id} ü%d", i%2), options...)
	_, work := front.Start(here, "everything", trace.WithAttributes(everyType...))
	work.AddEvent("began", trace.WithAttributes(attribute.Int("at", i), attribute.Bool("ok", true),
		attribute.StringSlice("tags", []string{"x", "y"})))
	work.AddEvent("no attributes")
	calling, call := front.Start(here, "GET stock", trace.WithSpanKind(trace.SpanKindClient))
	serving, served := stock.Start(calling, "GET /stock", trace.WithSpanKind(trace.SpanKindServer))
	putting, put := stock.Start(serving, "orders publish", trace.WithSpanKind(trace.SpanKindProducer))
	_, taken := stock.Start(putting, "orders process", trace.WithSpanKind(trace.SpanKindConsumer))
	served.RecordError(fmt.Errorf("no stock — größer"))
	served.SetStatus(codes.Error, "out of stock: größer")
	call.SetStatus(codes.Ok, "")
	for _, span := range []trace.Span{taken, put, served, call, work, root} {
		span.End()
	}
	return root
}

func provider(service string, m *manifest, protocol, compression string, endpoints []string) *sdk.TracerProvider {
	r := resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.version", "1.2.3-ü"),
		attribute.StringSlice("deploy.parts", []string{"a", "b"}), attribute.Int("deploy.size", 7),
		attribute.Float64("deploy.share", 0.25), attribute.Bool("deploy.live", true))
	options := []sdk.TracerProviderOption{sdk.WithResource(r), sdk.WithSpanProcessor(m)}
	for _, endpoint := range endpoints {
		e, err := exporter(protocol, compression, endpoint)
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, sdk.WithBatcher(e, sdk.WithBatchTimeout(200*time.Millisecond)))
	}
	return sdk.NewTracerProvider(options...)
}

func main() {
	protocol, compression, endpoints := os.Args[1], os.Args[2], os.Args[3:]
	m := &manifest{}
	providers := []*sdk.TracerProvider{provider("shop-front", m, protocol, compression, endpoints),
		provider("shop-stock", m, protocol, compression, endpoints)}
	front := providers[0].Tracer("shop.front", trace.WithInstrumentationVersion("1.0.0"),
		trace.WithInstrumentationAttributes(attribute.String("team", "front")))
	stock := providers[1].Tracer("shop.stock-größe", trace.WithInstrumentationVersion("2.0"),
		trace.WithSchemaURL("https://opentelemetry.io/schemas/1.26.0"))
	var before trace.Span
	for i := range 9 {
		before = order(i, front, stock, before)
	}
	here, whole := front.Start(context.Background(), "a trace of several requests")
	for i := range 700 {
		_, step := front.Start(here, fmt.Sprintf("step %d", i%7), trace.WithAttributes(attribute.Int("i", i)))
		step.End()
	}
	whole.End()
	for _, p := range providers {
		if err := p.Shutdown(context.Background()); err != nil {
			log.Fatal("the SDK says that it could not export everything: ", err)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(object{"spans": m.spans}); err != nil {
		log.Fatal(err)
	}
}
