package dispatch.worker;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiFunction;

/** From the files of a function to its handler: written, compiled where they are sources, loaded. */
final class Loading {
    private final Map<?, ?> order;
    private final List<File> path = new ArrayList<>();
    private final List<File> sources = new ArrayList<>();
    /** What was compiled, by class name; what other workers are given instead of compiling. */
    private Map<String, byte[]> compiled = new LinkedHashMap<>();

    /** A reason why this is no function. */
    static final class Invalid extends Exception {
        private static final long serialVersionUID = 1;

        Invalid(String reason) {
            super(reason);
        }
    }

    static void write(String folder, List<?> files) throws IOException {
        for (Object each : files) {
            List<?> file = (List<?>) each;
            File path = new File(folder, (String) file.get(0));
            path.getParentFile().mkdirs();
            String text = (String) file.get(1);
            boolean packed = Boolean.TRUE.equals(file.get(2));
            try (FileOutputStream out = new FileOutputStream(path)) {
                out.write(packed ? Base64.getDecoder().decode(text) : text.getBytes(StandardCharsets.UTF_8));
            }
        }
    }

    static void remove(File file) {
        File[] inside = file.listFiles();
        if (inside != null) for (File each : inside) remove(each);
        file.delete();
    }

    Loading(Map<?, ?> order) {
        this.order = order;
        String folder = (String) order.get("dir");
        path.add(new File(folder));
        for (Object each : (List<?>) order.get("files")) {
            File file = new File(folder, (String) ((List<?>) each).get(0));
            if (file.getName().endsWith(".java")) sources.add(file);
            if (file.getName().endsWith(".jar")) path.add(file);
        }
        if (order.get("layer") != null) {
            File[] jars = new File((String) order.get("layer")).listFiles();
            if (jars != null) for (File jar : jars) if (jar.getName().endsWith(".jar")) path.add(jar);
        }
    }

    void compile() throws Invalid, IOException {
        if (!sources.isEmpty()) compiled = Compiling.compile(sources, path);
    }

    /** The handler's class. */
    Class<?> load() throws Invalid, IOException {
        String code = (String) order.get("code");
        if (code != null) unpack(code);
        else compile();
        URL[] urls = new URL[path.size()];
        for (int i = 0; i < urls.length; i++) urls[i] = url(path.get(i));
        Loader loader = new Loader(urls, compiled);
        Thread.currentThread().setContextClassLoader(loader);
        return find((String) order.get("handler"), loader);
    }

    /** A URL without the detour by URI, which loads half of the library. */
    private static URL url(File file) throws IOException {
        return file.isDirectory() ? new URL("file", "", file.getPath() + "/") : new URL("file", "", file.getPath());
    }

    /** By its full name; for a single file also by its last part, or as the only one there is. */
    private Class<?> find(String handler, ClassLoader loader) throws Invalid {
        try {
            return handler(Class.forName(handler, true, loader));
        } catch (ClassNotFoundException absent) {
            if (!handler.equals(absent.getMessage())) throw new Invalid("class " + absent.getMessage() + " was not found");
        }
        List<Class<?>> found = new ArrayList<>();
        for (String name : compiled.keySet()) {
            try {
                Class<?> candidate = Class.forName(name, false, loader);
                if (name.endsWith("." + handler)) return handler(Class.forName(name, true, loader));
                if (BiFunction.class.isAssignableFrom(candidate) && candidate.getEnclosingClass() == null) found.add(candidate);
            } catch (ClassNotFoundException | NoClassDefFoundError absent) {
                continue; // it is not the one
            }
        }
        if (handler.equals("Handler") && found.size() == 1) return handler(found.get(0));
        throw new Invalid("class " + handler + " was not found");
    }

    private static Class<?> handler(Class<?> found) throws Invalid {
        if (BiFunction.class.isAssignableFrom(found) || Spring.configures(found)) return found;
        throw new Invalid(found.getName() + " does not implement java.util.function.BiFunction");
    }

    String code() throws IOException {
        if (compiled.isEmpty()) return null;
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        for (Map.Entry<String, byte[]> each : compiled.entrySet()) {
            out.writeUTF(each.getKey());
            out.writeInt(each.getValue().length);
            out.write(each.getValue());
        }
        return Base64.getEncoder().encodeToString(bytes.toByteArray());
    }

    private void unpack(String code) throws IOException {
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(Base64.getDecoder().decode(code)));
        while (in.available() > 0) {
            String name = in.readUTF();
            byte[] bytes = new byte[in.readInt()];
            in.readFully(bytes);
            compiled.put(name, bytes);
        }
    }

    /** The function's own classes, then its folder, its jars and its layer. */
    static final class Loader extends URLClassLoader {
        private final Map<String, byte[]> classes;

        Loader(URL[] urls, Map<String, byte[]> classes) {
            super(urls, ClassLoader.getPlatformClassLoader());
            this.classes = classes;
        }

        @Override
        protected Class<?> findClass(String name) throws ClassNotFoundException {
            byte[] bytes = classes.get(name);
            return bytes == null ? super.findClass(name) : defineClass(name, bytes, 0, bytes.length);
        }
    }
}
