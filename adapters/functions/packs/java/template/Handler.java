import java.util.Map;
import java.util.function.BiFunction;

/** Says hello. {@code apply} is called once for each run. */
public class Handler implements BiFunction<Map<String, Object>, Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> apply(Map<String, Object> context, Map<String, Object> payload) {
        Object name = payload.getOrDefault("name", "world");
        System.out.println("greeting " + name); // what is printed is the run's log
        return Map.of("greeting", "Hello, " + name + "!");
    }
}
