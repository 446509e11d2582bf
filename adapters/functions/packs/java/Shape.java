package dispatch.worker;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.RecordComponent;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.BiFunction;

/** Between JSON and the types that a handler declares: beans, records, collections, numbers, enums. */
final class Shape {
    private Shape() {}

    /** What a handler takes and returns: the three arguments of its BiFunction. */
    static Type[] ofHandler(Class<?> handler) {
        for (Class<?> c = handler; c != null; c = c.getSuperclass()) {
            for (Type type : c.getGenericInterfaces()) {
                if (type instanceof ParameterizedType && ((ParameterizedType) type).getRawType() == BiFunction.class) {
                    return ((ParameterizedType) type).getActualTypeArguments();
                }
            }
        }
        return new Type[] {Object.class, Object.class, Object.class};
    }

    /** A value read from JSON, as that type; an IllegalArgumentException says where it does not fit. */
    static Object fit(Object value, Type type, String where) {
        if (type instanceof WildcardType) return fit(value, ((WildcardType) type).getUpperBounds()[0], where);
        if (type instanceof TypeVariable) return value;
        Type[] inner = {};
        if (type instanceof ParameterizedType) {
            inner = ((ParameterizedType) type).getActualTypeArguments();
            type = ((ParameterizedType) type).getRawType();
        }
        if (!(type instanceof Class)) return value;
        Class<?> raw = (Class<?>) type;
        if (raw == Optional.class) return Optional.ofNullable(fit(value, first(inner), where));
        if (value == null) {
            if (raw.isPrimitive()) throw misfit(where, raw, null);
            return null;
        }
        if (raw == Object.class) return value;
        if (Map.class.isAssignableFrom(raw)) return map(value, raw, inner, where);
        if (Collection.class.isAssignableFrom(raw) || raw == Iterable.class) return collection(value, raw, first(inner), where);
        if (raw.isArray()) return array(value, raw.getComponentType(), where);
        if (raw == String.class || raw == CharSequence.class) {
            if (value instanceof Map || value instanceof List) throw misfit(where, raw, value);
            return value.toString();
        }
        if (raw == boolean.class || raw == Boolean.class) {
            if (value instanceof Boolean) return value;
            throw misfit(where, raw, value);
        }
        if (raw == char.class || raw == Character.class) {
            if (value instanceof String && ((String) value).length() == 1) return ((String) value).charAt(0);
            throw misfit(where, raw, value);
        }
        if (raw.isPrimitive() || Number.class.isAssignableFrom(raw)) return number(value, raw, where);
        if (raw.isEnum()) return constant(value, raw, where);
        if (raw.isInstance(value)) return value;
        if (!(value instanceof Map) || raw.isInterface() || raw.getName().startsWith("java.")) throw misfit(where, raw, value);
        return raw.isRecord() ? record((Map<?, ?>) value, raw, where) : bean((Map<?, ?>) value, raw, where);
    }

    private static Type first(Type[] types) {
        return types.length > 0 ? types[0] : Object.class;
    }

    private static IllegalArgumentException misfit(String where, Class<?> type, Object value) {
        String found = value == null ? "null" : value instanceof Map ? "an object" : value instanceof List ? "a list"
                : value instanceof String ? "a string" : value instanceof Boolean ? "a boolean" : "the number " + value;
        return new IllegalArgumentException(where + ": " + found + " is no " + type.getSimpleName());
    }

    private static Object map(Object value, Class<?> raw, Type[] inner, String where) {
        if (!(value instanceof Map)) throw misfit(where, raw, value);
        if (inner.length < 2 && raw.isInstance(value)) return value;
        Map<Object, Object> out = raw.isInstance(value) || raw.isInterface() ? implementation(raw) : make(raw, where);
        for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
            String at = where + "." + entry.getKey();
            Object key = inner.length < 2 ? entry.getKey() : key((String) entry.getKey(), inner[0], at);
            out.put(key, inner.length < 2 ? entry.getValue() : fit(entry.getValue(), inner[1], at));
        }
        return out;
    }

    private static Object key(String key, Type type, String where) {
        if (type == Integer.class || type == Long.class) {
            try {
                return fit(Json.parse(key), type, where);
            } catch (RuntimeException e) {
                throw misfit(where, (Class<?>) type, key);
            }
        }
        return fit(key, type, where);
    }

    private static Map<Object, Object> implementation(Class<?> raw) {
        return java.util.SortedMap.class.isAssignableFrom(raw) ? new java.util.TreeMap<>() : new LinkedHashMap<>();
    }

    private static Object collection(Object value, Class<?> raw, Type element, String where) {
        if (!(value instanceof List)) throw misfit(where, raw, value);
        Collection<Object> out;
        if (raw.isAssignableFrom(ArrayList.class)) out = new ArrayList<>();
        else if (raw.isAssignableFrom(LinkedHashSet.class) || raw == Set.class) out = new LinkedHashSet<>();
        else if (raw.isInterface()) throw misfit(where, raw, value);
        else out = make(raw, where);
        int i = 0;
        for (Object each : (List<?>) value) out.add(fit(each, element, where + "[" + i++ + "]"));
        return out;
    }

    private static Object array(Object value, Class<?> element, String where) {
        if (!(value instanceof List)) throw misfit(where, element.arrayType(), value);
        List<?> list = (List<?>) value;
        Object out = Array.newInstance(element, list.size());
        for (int i = 0; i < list.size(); i++) Array.set(out, i, fit(list.get(i), element, where + "[" + i + "]"));
        return out;
    }

    private static Object number(Object value, Class<?> raw, String where) {
        if (!(value instanceof Number)) throw misfit(where, raw, value);
        Number n = (Number) value;
        if (raw.isInstance(n)) return n;
        if (raw == double.class || raw == Double.class) return n.doubleValue();
        if (raw == float.class || raw == Float.class) return n.floatValue();
        try {
            BigDecimal exact = new BigDecimal(n.toString());
            if (raw == BigDecimal.class) return exact;
            if (raw == BigInteger.class) return exact.toBigIntegerExact();
            if (raw == int.class || raw == Integer.class) return exact.intValueExact();
            if (raw == long.class || raw == Long.class) return exact.longValueExact();
            if (raw == short.class || raw == Short.class) return exact.shortValueExact();
            if (raw == byte.class || raw == Byte.class) return exact.byteValueExact();
        } catch (ArithmeticException e) {
            throw misfit(where, raw, value);
        }
        throw misfit(where, raw, value);
    }

    private static Object constant(Object value, Class<?> raw, String where) {
        for (Object constant : raw.getEnumConstants()) {
            if (((Enum<?>) constant).name().equals(value)) return constant;
        }
        throw misfit(where, raw, value);
    }

    private static <T> T make(Class<?> raw, String where) {
        try {
            Constructor<?> made = raw.getDeclaredConstructor();
            if (!raw.getName().startsWith("java.")) made.setAccessible(true);
            @SuppressWarnings("unchecked")
            T instance = (T) made.newInstance();
            return instance;
        } catch (InvocationTargetException e) {
            throw new IllegalArgumentException(where + ": " + e.getCause(), e.getCause());
        } catch (ReflectiveOperationException e) {
            throw new IllegalArgumentException(where + ": " + raw.getName() + " cannot be made without arguments");
        }
    }

    private static Object record(Map<?, ?> value, Class<?> raw, String where) {
        RecordComponent[] components = raw.getRecordComponents();
        Class<?>[] types = new Class<?>[components.length];
        Object[] values = new Object[components.length];
        for (int i = 0; i < components.length; i++) {
            String name = components[i].getName();
            types[i] = components[i].getType();
            Object given = value.get(name);
            values[i] = given == null && types[i].isPrimitive()
                    ? Array.get(Array.newInstance(types[i], 1), 0)
                    : fit(given, components[i].getGenericType(), where + "." + name);
        }
        try {
            Constructor<?> made = raw.getDeclaredConstructor(types);
            made.setAccessible(true);
            return made.newInstance(values);
        } catch (InvocationTargetException e) {
            throw new IllegalArgumentException(where + ": " + e.getCause(), e.getCause());
        } catch (ReflectiveOperationException e) {
            throw new IllegalArgumentException(where + ": " + e.getMessage());
        }
    }

    /** Setters first, then fields; a property that the class does not have is left out. */
    private static Object bean(Map<?, ?> value, Class<?> raw, String where) {
        Object bean = make(raw, where);
        for (Map.Entry<?, ?> entry : value.entrySet()) {
            String name = (String) entry.getKey();
            String at = where + "." + name;
            try {
                Method setter = setter(raw, name);
                if (setter != null) {
                    setter.setAccessible(true);
                    setter.invoke(bean, fit(entry.getValue(), setter.getGenericParameterTypes()[0], at));
                    continue;
                }
                Field field = field(raw, name);
                if (field != null) {
                    field.setAccessible(true);
                    field.set(bean, fit(entry.getValue(), field.getGenericType(), at));
                }
            } catch (InvocationTargetException e) {
                throw new IllegalArgumentException(at + ": " + e.getCause(), e.getCause());
            } catch (ReflectiveOperationException e) {
                throw new IllegalArgumentException(at + ": " + e.getMessage());
            }
        }
        return bean;
    }

    private static Method setter(Class<?> raw, String name) {
        if (name.isEmpty()) return null;
        String wanted = "set" + Character.toUpperCase(name.charAt(0)) + name.substring(1);
        for (Method method : raw.getMethods()) {
            boolean fits = method.getParameterCount() == 1 && !Modifier.isStatic(method.getModifiers());
            if (fits && method.getName().equals(wanted)) return method;
        }
        return null;
    }

    private static Field field(Class<?> raw, String name) {
        for (Class<?> c = raw; c != null && c != Object.class; c = c.getSuperclass()) {
            for (Field field : c.getDeclaredFields()) {
                boolean own = !Modifier.isStatic(field.getModifiers()) && !Modifier.isFinal(field.getModifiers());
                if (own && field.getName().equals(name)) return field;
            }
        }
        return null;
    }

    /** A result as something that Json knows. */
    static Object plain(Object value) {
        Class<?> raw = value.getClass();
        if (raw.isArray()) {
            List<Object> list = new ArrayList<>();
            for (int i = 0; i < Array.getLength(value); i++) list.add(Array.get(value, i));
            return list;
        }
        if (value instanceof Optional) return ((Optional<?>) value).orElse(null);
        if (value instanceof java.util.Date) return ((java.util.Date) value).toInstant().toString();
        String name = raw.getName();
        if (value instanceof java.util.UUID || value instanceof java.net.URI || name.startsWith("java.time.")) {
            return value.toString();
        }
        if (name.startsWith("java.") || name.startsWith("javax.") || name.startsWith("jdk.") || name.startsWith("sun.")) {
            throw new IllegalStateException(name + " has no JSON form");
        }
        try {
            return properties(value, raw);
        } catch (InvocationTargetException e) {
            throw new IllegalStateException(String.valueOf(e.getCause()), e.getCause());
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(String.valueOf(e.getMessage()));
        }
    }

    private static Map<String, Object> properties(Object value, Class<?> raw) throws ReflectiveOperationException {
        Map<String, Object> out = new LinkedHashMap<>();
        if (raw.isRecord()) {
            for (RecordComponent component : raw.getRecordComponents()) {
                Method accessor = component.getAccessor();
                accessor.setAccessible(true);
                out.put(component.getName(), accessor.invoke(value));
            }
            return out;
        }
        boolean known = false;
        for (Field field : raw.getFields()) {
            if (Modifier.isStatic(field.getModifiers())) continue;
            field.setAccessible(true);
            out.put(field.getName(), field.get(value));
            known = true;
        }
        Map<String, Object> sorted = new java.util.TreeMap<>(); // methods come in no order of their own
        for (Method method : raw.getMethods()) {
            String name = property(method);
            if (name == null) continue;
            method.setAccessible(true);
            sorted.put(name, method.invoke(value));
            known = true;
        }
        if (!known) throw new IllegalStateException(raw.getName() + " has neither getters nor public fields");
        out.putAll(sorted);
        return out;
    }

    private static String property(Method method) {
        String name = method.getName();
        boolean plain = method.getParameterCount() == 0 && !Modifier.isStatic(method.getModifiers())
                && method.getDeclaringClass() != Object.class && method.getReturnType() != void.class;
        int from = name.startsWith("get") ? 3 : name.startsWith("is") && method.getReturnType() == boolean.class ? 2 : 0;
        if (!plain || from == 0 || name.length() == from || !Character.isUpperCase(name.charAt(from))) return null;
        return Character.toLowerCase(name.charAt(from)) + name.substring(from + 1);
    }
}
