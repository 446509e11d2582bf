package dispatch.worker;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.OutputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.FileObject;
import javax.tools.ForwardingJavaFileManager;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileManager;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;

/** From source files to classes, all of it in memory. A class of its own, because only the first worker of a function needs it. */
final class Compiling {
    private Compiling() {}

    static Map<String, byte[]> compile(List<File> sources, List<File> path) throws Loading.Invalid, IOException {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        if (compiler == null) throw new Loading.Invalid("this Java has no compiler: install a JDK, or give compiled classes");
        StringBuilder classPath = new StringBuilder();
        for (File each : path) classPath.append(classPath.length() == 0 ? "" : File.pathSeparator).append(each.getPath());
        DiagnosticCollector<JavaFileObject> said = new DiagnosticCollector<>();
        List<JavaFileObject> units = new ArrayList<>();
        for (File source : sources) units.add(new Source(source));
        try (Memory files = new Memory(compiler.getStandardFileManager(said, null, StandardCharsets.UTF_8))) {
            List<String> options = List.of("-g", "-parameters", "-proc:none", "-nowarn", "-cp", classPath.toString());
            if (compiler.getTask(null, files, said, options, null, units).call()) {
                Map<String, byte[]> compiled = new LinkedHashMap<>();
                for (Map.Entry<String, Bytes> each : files.classes.entrySet()) compiled.put(each.getKey(), each.getValue().bytes.toByteArray());
                return compiled;
            }
        }
        for (Diagnostic<? extends JavaFileObject> each : said.getDiagnostics()) {
            if (each.getKind() != Diagnostic.Kind.ERROR) continue;
            String where = each.getSource() == null ? "" : new File(each.getSource().getName()).getName() + ":" + each.getLineNumber() + ": ";
            throw new Loading.Invalid(where + each.getMessage(null));
        }
        throw new Loading.Invalid("it does not compile");
    }

    /** A source whose public class may have another name than the file. */
    private static final class Source extends SimpleJavaFileObject {
        private final File file;

        Source(File file) {
            super(file.toURI(), Kind.SOURCE);
            this.file = file;
        }

        @Override
        public CharSequence getCharContent(boolean ignored) throws IOException {
            return new String(java.nio.file.Files.readAllBytes(file.toPath()), StandardCharsets.UTF_8);
        }

        @Override
        public boolean isNameCompatible(String name, Kind kind) {
            return kind == Kind.SOURCE;
        }
    }

    private static final class Bytes extends SimpleJavaFileObject {
        final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

        Bytes(String name) {
            super(URI.create("memory:///" + name.replace('.', '/') + ".class"), Kind.CLASS);
        }

        @Override
        public OutputStream openOutputStream() {
            return bytes;
        }
    }

    private static final class Memory extends ForwardingJavaFileManager<JavaFileManager> {
        final Map<String, Bytes> classes = new LinkedHashMap<>();

        Memory(JavaFileManager files) {
            super(files);
        }

        @Override
        public JavaFileObject getJavaFileForOutput(Location location, String name, JavaFileObject.Kind kind, FileObject sibling) {
            Bytes bytes = new Bytes(name);
            classes.put(name, bytes);
            return bytes;
        }
    }
}
