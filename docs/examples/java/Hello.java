import java.util.Map;
import java.util.function.BiFunction;

public class Hello implements BiFunction<Map<String, Object>, Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> apply(Map<String, Object> context, Map<String, Object> payload) {
        Object name = payload.getOrDefault("name", "Noone");
        Object place = payload.getOrDefault("place", "Nowhere");
        return Map.of("myField", "Hello, " + name + " from " + place);
    }
}
