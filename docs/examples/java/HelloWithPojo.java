package io.dispatchframework.examples;

import java.util.Map;
import java.util.function.BiFunction;

public class HelloWithPojo implements BiFunction<Map<String, Object>, HelloWithPojo.Person, HelloWithPojo.Greeting> {
    @Override
    public Greeting apply(Map<String, Object> context, Person person) {
        Greeting greeting = new Greeting();
        greeting.setMyField(String.format("Hello, %s from %s", person.getName(), person.getPlace()));
        return greeting;
    }

    public static class Person {
        private String name = "Noone";
        private String place = "Nowhere";

        public String getName() {
            return name;
        }

        public void setName(String name) {
            this.name = name;
        }

        public String getPlace() {
            return place;
        }

        public void setPlace(String place) {
            this.place = place;
        }
    }

    public static class Greeting {
        private String myField;

        public String getMyField() {
            return myField;
        }

        public void setMyField(String myField) {
            this.myField = myField;
        }
    }
}
