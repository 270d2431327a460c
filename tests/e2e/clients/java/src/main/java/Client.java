import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.ReadWriteSpan;
import io.opentelemetry.sdk.trace.ReadableSpan;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.SpanProcessor;
import io.opentelemetry.sdk.trace.data.EventData;
import io.opentelemetry.sdk.trace.data.LinkData;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** Client PROTOCOL COMPRESSION ENDPOINT…: the same spans to every endpoint, and on stdout what they were. */
public final class Client {
    private static SpanExporter exporter(String protocol, String compression, String endpoint) {
        if (protocol.equals("grpc")) {
            return OtlpGrpcSpanExporter.builder().setEndpoint("http://" + endpoint).setCompression(compression).build();
        }
        return OtlpHttpSpanExporter.builder().setEndpoint("http://" + endpoint + "/v1/traces")
                .setCompression(compression).build();
    }

    // ---- what was sent, as the SDK itself says: JSON, written by hand ----
    private static String quoted(String s) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : s.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }

    private static String field(String name, String json) {
        return quoted(name) + ":" + json;
    }

    private static String object(String... fields) {
        return "{" + String.join(",", fields) + "}";
    }

    private static String array(List<String> items) {
        return "[" + String.join(",", items) + "]";
    }

    private static String value(Object v) {
        if (v instanceof String) {
            return object(field("string", quoted((String) v)));
        }
        if (v instanceof Boolean) {
            return object(field("bool", v.toString()));
        }
        if (v instanceof Long) {
            return object(field("int", quoted(v.toString())));
        }
        if (v instanceof Double) {
            double d = (Double) v;
            return object(field("double", Double.isFinite(d) ? v.toString() : quoted(v.toString())));
        }
        if (v instanceof List) {
            List<String> items = ((List<?>) v).stream().map(Client::value).collect(Collectors.toList());
            return object(field("array", array(items)));
        }
        throw new IllegalArgumentException("an attribute of " + v.getClass());
    }

    private static String attributes(Attributes a) {
        List<String> pairs = new ArrayList<>();
        a.forEach((key, v) -> pairs.add("[" + quoted(key.getKey()) + "," + value(v) + "]"));
        return array(pairs);
    }

    private static String state(TraceState s) {
        List<String> members = new ArrayList<>();
        s.forEach((key, v) -> members.add(key + "=" + v));
        return quoted(String.join(",", members));
    }

    private static String event(EventData e) {
        return object(field("name", quoted(e.getName())), field("time", quoted("" + e.getEpochNanos())),
                field("attributes", attributes(e.getAttributes())));
    }

    private static String link(LinkData l) {
        SpanContext context = l.getSpanContext();
        return object(field("trace_id", quoted(context.getTraceId())), field("span_id", quoted(context.getSpanId())),
                field("trace_state", state(context.getTraceState())),
                field("attributes", attributes(l.getAttributes())));
    }

    private static String said(SpanData s) {
        String version = s.getInstrumentationScopeInfo().getVersion();
        return object(field("trace_id", quoted(s.getTraceId())), field("span_id", quoted(s.getSpanId())),
                field("parent_span_id", quoted(s.getParentSpanContext().isValid() ? s.getParentSpanId() : "")),
                field("name", quoted(s.getName())), field("kind", quoted(s.getKind().name())),
                field("start", quoted("" + s.getStartEpochNanos())), field("end", quoted("" + s.getEndEpochNanos())),
                field("trace_state", state(s.getSpanContext().getTraceState())),
                field("status", object(field("code", quoted(s.getStatus().getStatusCode().name())),
                        field("message", quoted(s.getStatus().getDescription())))),
                field("attributes", attributes(s.getAttributes())),
                field("events", array(s.getEvents().stream().map(Client::event).collect(Collectors.toList()))),
                field("links", array(s.getLinks().stream().map(Client::link).collect(Collectors.toList()))),
                field("resource", attributes(s.getResource().getAttributes())),
                field("scope", object(field("name", quoted(s.getInstrumentationScopeInfo().getName())),
                        field("version", quoted(version == null ? "" : version)))));
    }

    private static final class Manifest implements SpanProcessor {
        final List<String> spans = new ArrayList<>();

        @Override
        public void onStart(Context parent, ReadWriteSpan span) {
        }

        @Override
        public boolean isStartRequired() {
            return false;
        }

        @Override
        public synchronized void onEnd(ReadableSpan span) {
            spans.add(said(span.toSpanData()));
        }

        @Override
        public boolean isEndRequired() {
            return true;
        }
    }

    // ---- a small shop ----
    private static final Attributes EVERY_TYPE = Attributes.builder()
            .put("text", "plain").put("text.empty", "").put("text.unicode", "größer 日本語 🐟 \u0001\t\n")
            .put("text.long", "a fish weir lets the river through 🐟 ".repeat(1000))
            .put("größe", "a key outside of ASCII").put("yes", true).put("no", false)
            .put("int.min", Long.MIN_VALUE).put("int.max", Long.MAX_VALUE).put("int.zero", 0)
            .put("double", 0.1).put("double.large", Double.MAX_VALUE).put("double.small", -Double.MIN_VALUE)
            .put("double.whole", 3.0).put("double.inf", Double.POSITIVE_INFINITY).put("double.nan", Double.NaN)
            .put("texts", "a", "", "ü").put("bools", true, false).put("ints", Long.MIN_VALUE, 0, Long.MAX_VALUE)
            .put("doubles", 0.5, -0.0).put(AttributeKey.stringArrayKey("none"), List.of()).build();

    private static Context remoteParent(int i) {
        TraceState state = TraceState.builder().put("other", "a-b_c").put("vendor", "t" + i).build();
        return Context.root().with(Span.wrap(SpanContext.createFromRemoteParent(
                String.format("%016x%016x", System.nanoTime(), i + 1), String.format("eee19b7ec3c1b1%02x", 16 + i),
                TraceFlags.getSampled(), state)));
    }

    private static Span start(Tracer tracer, String name, SpanKind kind, Context parent) {
        return tracer.spanBuilder(name).setSpanKind(kind).setParent(parent).startSpan();
    }

    private static Span order(int i, Tracer front, Tracer stock, Span before) {
        Context parent = i % 3 == 2 ? remoteParent(i) : Context.root();
        var builder = front.spanBuilder("GET /orders/{id} ü" + i % 2).setSpanKind(SpanKind.SERVER).setParent(parent)
                .setAttribute("http.request.method", "GET").setAttribute("url.path", "/orders/" + i);
        if (before != null) {
            builder.addLink(before.getSpanContext(), Attributes.builder().put("reason", "again").put("n", i).build());
        }
        Span root = builder.startSpan();
        Context here = parent.with(root);
        Span work = start(front, "everything", SpanKind.INTERNAL, here);
        work.setAllAttributes(EVERY_TYPE);
        work.addEvent("began", Attributes.builder().put("at", i).put("ok", true).put("tags", "x", "y").build());
        work.addEvent("no attributes");
        Span call = start(front, "GET stock", SpanKind.CLIENT, here);
        Span served = start(stock, "GET /stock", SpanKind.SERVER, here.with(call));
        Span put = start(stock, "orders publish", SpanKind.PRODUCER, here.with(served));
        Span taken = start(stock, "orders process", SpanKind.CONSUMER, here.with(put));
        served.recordException(new IllegalStateException("no stock — größer"));
        served.setStatus(StatusCode.ERROR, "out of stock: größer");
        call.setStatus(StatusCode.OK);
        for (Span span : List.of(taken, put, served, call, work, root)) {
            span.end();
        }
        return root;
    }

    private static SdkTracerProvider provider(String service, Manifest manifest, String[] args) {
        Resource resource = Resource.create(Attributes.builder().put("service.name", service)
                .put("service.version", "1.2.3-ü").put("deploy.parts", "a", "b").put("deploy.size", 7)
                .put("deploy.share", 0.25).put("deploy.live", true).build());
        var builder = SdkTracerProvider.builder().setResource(resource).addSpanProcessor(manifest);
        for (String endpoint : Arrays.asList(args).subList(2, args.length)) {
            builder.addSpanProcessor(BatchSpanProcessor.builder(exporter(args[0], args[1], endpoint))
                    .setScheduleDelay(Duration.ofMillis(200)).build());
        }
        return builder.build();
    }

    private static void finish(CompletableResultCode code) {
        if (!code.join(30, TimeUnit.SECONDS).isSuccess()) {
            System.err.println("the SDK says that it could not export everything");
            System.exit(1);
        }
    }

    public static void main(String[] args) {
        Manifest manifest = new Manifest();
        SdkTracerProvider one = provider("shop-front", manifest, args);
        SdkTracerProvider two = provider("shop-stock", manifest, args);
        Tracer front = one.tracerBuilder("shop.front").setInstrumentationVersion("1.0.0").build();
        Tracer stock = two.tracerBuilder("shop.stock-größe").setInstrumentationVersion("2.0")
                .setSchemaUrl("https://opentelemetry.io/schemas/1.26.0").build();
        Span before = null;
        for (int i = 0; i < 9; i++) {
            before = order(i, front, stock, before);
        }
        Span whole = start(front, "a trace of several requests", SpanKind.INTERNAL, Context.root());
        Context here = Context.root().with(whole);
        for (int i = 0; i < 700; i++) {
            front.spanBuilder("step " + i % 7).setParent(here).setAttribute("i", i).startSpan().end();
        }
        whole.end();
        for (SdkTracerProvider p : List.of(one, two)) {
            finish(p.forceFlush());
            finish(p.shutdown());
        }
        new PrintStream(System.out, true, StandardCharsets.UTF_8).print(object(field("spans", array(manifest.spans))));
    }
}
