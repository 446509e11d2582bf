package dispatch.worker;

import java.io.File;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.BiFunction;
import sun.misc.Unsafe;

/**
 * The Java worker: one function, one call at a time, over one private socket, as
 * packs/python3/worker.py says. Start-up time is mostly classes that are loaded, so what is not
 * needed for a call is in classes of its own, and nothing here is a lambda.
 */
public final class Worker {
    private static final int CHANNEL = 3;
    private static final String FUNCTION = "/tmp/function"; // the engine says the same in every order
    private static final String BINDINGS = "/tmp/bindings"; // what $SERVICE_BINDING_ROOT says

    private final FileInputStream in;
    private final FileOutputStream out;
    private byte[] buffer = new byte[65536];
    private int start;
    private int end;
    private int threads = Integer.MAX_VALUE; // none were started by a function yet
    private BiFunction<Object, Object, Object> handler;
    private Type[] types;

    private Worker(FileDescriptor channel) {
        in = new FileInputStream(channel);
        out = new FileOutputStream(channel);
    }

    public static void main(String[] arguments) throws Exception {
        Worker worker = new Worker(descriptor());
        worker.touch();
        worker.threads = threads();
        worker.send("{\"ready\":1,\"version\":\"" + System.getProperty("java.version") + "\"}\n");
        worker.serve();
        Runtime.getRuntime().halt(0);
    }

    /** Descriptor 3, which no file name leads to, because it is a socket. */
    private static FileDescriptor descriptor() throws ReflectiveOperationException {
        Field field = Unsafe.class.getDeclaredField("theUnsafe");
        field.setAccessible(true);
        Unsafe unsafe = (Unsafe) field.get(null);
        FileDescriptor descriptor = new FileDescriptor();
        unsafe.putInt(descriptor, unsafe.objectFieldOffset(FileDescriptor.class.getDeclaredField("fd")), CHANNEL);
        return descriptor;
    }

    private void send(String text) throws IOException {
        System.out.flush();
        System.err.flush();
        out.write(text.getBytes(StandardCharsets.UTF_8));
    }

    /** The next line, or null at the end. */
    private String line() throws IOException {
        int searched = start;
        for (;;) {
            for (int i = searched; i < end; i++) {
                if (buffer[i] == '\n') {
                    String line = new String(buffer, start, i - start, StandardCharsets.UTF_8);
                    start = i + 1;
                    return line;
                }
            }
            if (start > 0) {
                System.arraycopy(buffer, start, buffer, 0, end - start);
                end -= start;
                start = 0;
            }
            searched = end;
            if (end == buffer.length) buffer = Arrays.copyOf(buffer, 2 * end);
            int count = in.read(buffer, end, buffer.length - end);
            if (count <= 0) return null;
            end += count;
        }
    }

    private void serve() throws IOException {
        for (String line = line(); line != null; line = line()) {
            Map<?, ?> order = (Map<?, ?>) Json.parse(line);
            Map<?, ?> init = (Map<?, ?>) order.get("init");
            send(init == null ? call(order) : initialise(init));
        }
    }

    private String initialise(Map<?, ?> order) {
        StringBuilder reply = new StringBuilder();
        try {
            Loading.write(FUNCTION, (List<?>) order.get("files"));
            Loading loading = new Loading(order);
            if (Boolean.TRUE.equals(order.get("compile"))) loading.compile();
            else become(loading.load());
            reply.append("{\"ready\":1");
            String code = order.get("code") == null ? loading.code() : null;
            if (code != null) reply.append(",\"code\":\"").append(code).append('"');
        } catch (Loading.Invalid invalid) {
            reply.append("{\"fail\":");
            Json.quote(invalid.getMessage(), reply);
        } catch (Throwable error) {
            Throwable cause = error instanceof InvocationTargetException || error instanceof ExceptionInInitializerError
                    ? error.getCause() : error;
            cause.printStackTrace();
            reply.append("{\"fail\":");
            Json.quote(cause.toString(), reply);
        }
        return reply.append("}\n").toString();
    }

    @SuppressWarnings("unchecked")
    private void become(Class<?> found) throws Throwable {
        if (!BiFunction.class.isAssignableFrom(found)) {
            handler = Spring.handler(found);
            types = Shape.ofHandler(handler.getClass());
            return;
        }
        Constructor<?> constructor;
        try {
            constructor = found.getDeclaredConstructor();
        } catch (NoSuchMethodException absent) {
            throw new Loading.Invalid(found.getName() + " has no constructor without arguments");
        }
        constructor.setAccessible(true);
        types = Shape.ofHandler(found);
        handler = (BiFunction<Object, Object, Object>) constructor.newInstance();
    }

    private String call(Map<?, ?> order) {
        Object id = order.get("call");
        List<?> bindings = (List<?>) order.get("bindings");
        if (bindings != null) {
            try {
                Loading.remove(new File(BINDINGS));
                new File(BINDINGS).mkdirs();
                Loading.write(BINDINGS, bindings);
            } catch (IOException error) {
                return failed(id, "SystemError", "the files of its services cannot be written: " + error, null);
            }
        }
        Object result;
        try {
            Object context = Shape.fit(order.get("context"), types[0], "context");
            Object payload = Shape.fit(order.get("payload"), types[1], "payload");
            result = handler.apply(context, payload);
        } catch (Throwable error) {
            String type = error instanceof IllegalArgumentException ? "InputError" : "FunctionError";
            String message = error.getMessage();
            boolean said = message != null && !message.isEmpty() && error instanceof Exception;
            return failed(id, type, said ? message : error.toString(), error);
        }
        StringBuilder reply = new StringBuilder(256);
        reply.append("{\"ok\":").append(id);
        left(reply).append(",\"payload\":");
        try {
            Json.write(result, reply, 0);
        } catch (RuntimeException | StackOverflowError | OutOfMemoryError error) {
            String why = error instanceof RuntimeException ? error.getMessage() : error.toString();
            return failed(id, "FunctionError", "the result cannot be written as JSON: " + why, null);
        }
        return reply.append("}\n").toString();
    }

    private String failed(Object id, String type, String message, Throwable error) {
        StringBuilder reply = new StringBuilder(1024);
        reply.append("{\"err\":").append(id).append(",\"type\":\"").append(type).append("\",\"message\":");
        Json.quote(message, reply);
        reply.append(",\"stacktrace\":[");
        if (error != null) trace(error, "", reply, 0);
        reply.append(']');
        // After these, nothing in this process is what it was.
        if (error instanceof VirtualMachineError && !(error instanceof StackOverflowError)) reply.append(",\"left\":1");
        else left(reply);
        return reply.append("}\n").toString();
    }

    /** The frames down to this class, and the same for every cause. */
    private static void trace(Throwable error, String before, StringBuilder out, int deep) {
        if (deep > 0) out.append(',');
        Json.quote(before + error, out);
        int frames = 0;
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("dispatch.worker.") || ++frames > 200) break;
            out.append(',');
            Json.quote("\tat " + frame, out);
        }
        if (error.getCause() != null && deep < 8) trace(error.getCause(), "Caused by: ", out, deep + 1);
    }

    private static int threads() {
        ThreadGroup group = Thread.currentThread().getThreadGroup();
        while (group.getParent() != null) group = group.getParent();
        return group.activeCount();
    }

    /**
     * Says whether processes that the function started still run: the engine then replaces the
     * worker. Java watches each by a thread, and threads are counted faster than processes.
     */
    private StringBuilder left(StringBuilder reply) {
        if (threads() > threads && ProcessHandle.current().children().findAny().isPresent()) reply.append(",\"left\":1");
        return reply;
    }

    /** Serves what it will serve once, so that the first real function finds its classes loaded. */
    private void touch() throws Exception {
        new File(FUNCTION).mkdirs();
        String init = "{\"init\":{\"files\":[[\"touched\",\"x\",false]],\"dir\":\"" + FUNCTION
                + "\",\"handler\":\"dispatch.worker.Touched\",\"code\":null,\"layer\":null}}";
        Map<?, ?> order = (Map<?, ?>) ((Map<?, ?>) Json.parse(init)).get("init");
        Loading.write(FUNCTION, (List<?>) order.get("files"));
        Map<String, byte[]> classes = new java.util.LinkedHashMap<>();
        String own = System.getProperty("java.class.path") + "/dispatch/worker/Worker$Touched.class";
        try (FileInputStream in = new FileInputStream(own)) {
            classes.put("dispatch.worker.Worker$Touched", in.readAllBytes());
        }
        java.net.URL[] path = {new java.net.URL("file", "", FUNCTION + "/")};
        Loading.Loader loader = new Loading.Loader(path, classes);
        try {
            become(loader.loadClass("dispatch.worker.Worker$Touched"));
        } catch (Throwable error) {
            throw new IllegalStateException(error);
        }
        for (int i = 0; i < 3; i++) {
            call((Map<?, ?>) Json.parse("{\"call\":0,\"context\":{\"secrets\":{}},\"payload\":{\"n\":\"\\u00e9\",\"l\":[1,2.5,true,null]}}"));
        }
        handler = null;
        new File(FUNCTION, "touched").delete();
    }

    /** A function that answers as most do. */
    static final class Touched implements BiFunction<Map<String, Object>, Map<String, Object>, Map<String, Object>> {
        Touched() {}

        @Override
        public Map<String, Object> apply(Map<String, Object> context, Map<String, Object> payload) {
            Map<String, Object> out = new java.util.LinkedHashMap<>();
            out.put("f", "x " + payload.get("n"));
            return out;
        }
    }
}
