package dispatch.worker;

import java.lang.annotation.Annotation;
import java.lang.reflect.AnnotatedElement;
import java.lang.reflect.Method;
import java.util.function.BiFunction;

/** Handlers that are beans: the class that is named says how they are made, and Spring makes them. */
final class Spring {
    private static final String PACKAGE = "org.springframework.context.annotation.";

    private Spring() {}

    /** Whether a class makes beans. */
    static boolean configures(Class<?> found) {
        if (has(found, "Configuration")) return true;
        for (Method method : found.getDeclaredMethods()) {
            if (has(method, "Bean")) return true;
        }
        return false;
    }

    /** Spring is the function's own: nothing here is compiled against it. */
    private static boolean has(AnnotatedElement element, String name) {
        for (Annotation annotation : element.getAnnotations()) {
            if (annotation.annotationType().getName().equals(PACKAGE + name)) return true;
        }
        return false;
    }

    /** The one bean that is a handler. */
    @SuppressWarnings("unchecked")
    static BiFunction<Object, Object, Object> handler(Class<?> configuration) throws ReflectiveOperationException {
        ClassLoader loader = configuration.getClassLoader();
        Class<?> contexts = Class.forName(PACKAGE + "AnnotationConfigApplicationContext", true, loader);
        Object[] classes = {new Class<?>[] {configuration}};
        Object context = contexts.getConstructor(Class[].class).newInstance(classes);
        Object bean = contexts.getMethod("getBean", Class.class).invoke(context, BiFunction.class);
        return (BiFunction<Object, Object, Object>) bean;
    }
}
