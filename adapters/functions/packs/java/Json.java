package dispatch.worker;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** JSON as maps, lists, strings, numbers, booleans and null; without a regular expression or a lambda, which would cost start-up time. */
final class Json {
    private static final int DEPTH_MAX = 200;

    private final String text;
    private int at;
    private int depth;

    private Json(String text) {
        this.text = text;
    }

    static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value();
        json.space();
        if (json.at < text.length()) throw json.bad();
        return value;
    }

    private IllegalArgumentException bad() {
        return new IllegalArgumentException("not JSON at character " + at);
    }

    private void space() {
        while (at < text.length() && text.charAt(at) <= ' ') at++;
    }

    private char next() {
        if (at >= text.length()) throw bad();
        return text.charAt(at);
    }

    private void expect(String word) {
        if (!text.startsWith(word, at)) throw bad();
        at += word.length();
    }

    private Object value() {
        space();
        switch (next()) {
            case '{': return object();
            case '[': return array();
            case '"': return string();
            case 't': expect("true"); return Boolean.TRUE;
            case 'f': expect("false"); return Boolean.FALSE;
            case 'n': expect("null"); return null;
            default: return number();
        }
    }

    private Map<String, Object> object() {
        Map<String, Object> map = new LinkedHashMap<>();
        at++;
        if (++depth > DEPTH_MAX) throw bad();
        space();
        if (next() == '}') at++;
        else for (;;) {
            space();
            if (next() != '"') throw bad();
            String key = string();
            space();
            expect(":");
            map.put(key, value());
            space();
            char c = next();
            at++;
            if (c == '}') break;
            if (c != ',') throw bad();
        }
        depth--;
        return map;
    }

    private List<Object> array() {
        List<Object> list = new ArrayList<>();
        at++;
        if (++depth > DEPTH_MAX) throw bad();
        space();
        if (next() == ']') at++;
        else for (;;) {
            list.add(value());
            space();
            char c = next();
            at++;
            if (c == ']') break;
            if (c != ',') throw bad();
        }
        depth--;
        return list;
    }

    private String string() {
        int from = ++at;
        while (next() != '"' && text.charAt(at) != '\\') at++;
        if (text.charAt(at) == '"') return text.substring(from, at++);
        StringBuilder out = new StringBuilder(text.substring(from, at));
        for (;;) {
            char c = next();
            at++;
            if (c == '"') return out.toString();
            if (c != '\\') {
                out.append(c);
                continue;
            }
            c = next();
            at++;
            switch (c) {
                case 'b': out.append('\b'); break;
                case 'f': out.append('\f'); break;
                case 'n': out.append('\n'); break;
                case 'r': out.append('\r'); break;
                case 't': out.append('\t'); break;
                case 'u':
                    if (at + 4 > text.length()) throw bad();
                    out.append((char) Integer.parseInt(text.substring(at, at + 4), 16));
                    at += 4;
                    break;
                default: out.append(c);
            }
        }
    }

    private Number number() {
        int from = at;
        boolean whole = true;
        while (at < text.length()) {
            char c = text.charAt(at);
            if (c == '.' || c == 'e' || c == 'E') whole = false;
            else if (c != '-' && c != '+' && (c < '0' || c > '9')) break;
            at++;
        }
        if (from == at) throw bad();
        String digits = text.substring(from, at);
        if (!whole) return Double.valueOf(digits);
        if (digits.length() > 18) {
            BigInteger big = new BigInteger(digits);
            return big.bitLength() < 64 ? (Number) big.longValue() : big;
        }
        long value = Long.parseLong(digits);
        return value == (int) value ? (Number) (int) value : (Number) value;
    }

    /** Writes maps, lists, strings, numbers, booleans and null; the rest is for Shape to take apart. */
    static void write(Object value, StringBuilder out, int deep) {
        if (deep > DEPTH_MAX) throw new IllegalStateException("it is nested too deeply, or holds itself");
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum) {
            quote(value instanceof Enum ? ((Enum<?>) value).name() : value.toString(), out);
        } else if (value instanceof Number) {
            number((Number) value, out);
        } else if (value instanceof Map) {
            char before = '{';
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                out.append(before);
                quote(String.valueOf(entry.getKey()), out);
                out.append(':');
                write(entry.getValue(), out, deep + 1);
                before = ',';
            }
            out.append(before == '{' ? "{}" : "}");
        } else if (value instanceof Iterable && !(value instanceof java.nio.file.Path)) {
            char before = '[';
            for (Object element : (Iterable<?>) value) {
                out.append(before);
                write(element, out, deep + 1);
                before = ',';
            }
            out.append(before == '[' ? "[]" : "]");
        } else {
            write(Shape.plain(value), out, deep + 1);
        }
    }

    private static void number(Number number, StringBuilder out) {
        if (number instanceof Double || number instanceof Float) {
            double value = number.doubleValue();
            if (Double.isNaN(value) || Double.isInfinite(value)) throw new IllegalStateException(number + " is no JSON");
            out.append(number instanceof Float ? Float.toString((Float) number) : Double.toString(value));
        } else if (number instanceof BigDecimal || number instanceof BigInteger || number instanceof Integer
                || number instanceof Long || number instanceof Short || number instanceof Byte) {
            out.append(number);
        } else {
            number(number.doubleValue(), out); // such as an AtomicInteger
        }
    }

    static void quote(String text, StringBuilder out) {
        out.append('"');
        int length = text.length();
        for (int i = 0; i < length; i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c == '\n') {
                out.append("\\n");
            } else if (c < ' ' || isLone(text, i)) {
                out.append("\\u").append(Integer.toHexString(0x10000 | c), 1, 5);
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    /** Half of a pair cannot be written as UTF-8. */
    private static boolean isLone(String text, int i) {
        char c = text.charAt(i);
        if (c < Character.MIN_SURROGATE || c > Character.MAX_SURROGATE) return false;
        if (Character.isHighSurrogate(c)) return i + 1 == text.length() || !Character.isLowSurrogate(text.charAt(i + 1));
        return i == 0 || !Character.isHighSurrogate(text.charAt(i - 1));
    }
}
