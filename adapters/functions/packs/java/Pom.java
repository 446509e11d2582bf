package dispatch.build;

import java.io.File;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.Node;
import org.xml.sax.ErrorHandler;
import org.xml.sax.SAXParseException;

/**
 * Leaves of a pom.xml what says which jars there are to be, and puts its properties in; ends with 3
 * when it asks for no dependency. No expression is left for Maven, which knows variables, system
 * properties and what the owner's settings hold.
 */
final class Pom {
    private static final List<String> KEPT = List.of(
            "modelVersion", "groupId", "artifactId", "version", "dependencies", "dependencyManagement", "repositories");
    private static final Pattern EXPRESSION = Pattern.compile("\\$\\{([^${}]*)\\}");
    private static final int NESTED_MAX = 20;
    private static final int VALUE_CHARS_MAX = 10_000;

    private final Map<String, String> properties = new HashMap<>();

    public static void main(String[] arguments) {
        try {
            DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
            factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
            // Neither may lie within an expression.
            factory.setIgnoringComments(true);
            factory.setCoalescing(true);
            var builder = factory.newDocumentBuilder();
            builder.setErrorHandler(new Silent());
            Document pom = builder.parse(new File(arguments[0]));
            Element project = pom.getDocumentElement();
            if (!project.getTagName().equals("project")) throw new IllegalArgumentException("it is no project");
            if (child(project, "parent") != null) {
                // Build extensions of a parent would be loaded, and its repositories are not seen here.
                throw new IllegalArgumentException("a parent is not supported: its builds could run code");
            }
            if (child(project, "dependencies") == null) System.exit(3);
            new Pom().reduce(project);
            for (String[] needed : new String[][] {
                {"modelVersion", "4.0.0"}, {"groupId", "function"}, {"artifactId", "function"}, {"version", "0"}, {"packaging", "pom"}
            }) {
                if (child(project, needed[0]) != null) continue;
                Element element = pom.createElementNS(project.getNamespaceURI(), needed[0]);
                element.setTextContent(needed[1]);
                project.appendChild(element);
            }
            TransformerFactory.newInstance().newTransformer()
                    .transform(new DOMSource(pom), new StreamResult(new File(arguments[1])));
        } catch (SAXParseException error) {
            System.out.println("pom.xml: line " + error.getLineNumber() + ": " + error.getMessage());
            System.exit(1);
        } catch (Exception error) {
            System.out.println("pom.xml: " + error.getMessage());
            System.exit(1);
        }
    }

    private void reduce(Element project) {
        withoutInstructions(project);
        project.normalize();
        for (String own : List.of("groupId", "artifactId", "version")) {
            Node found = child(project, own);
            if (found == null) continue;
            properties.put("project." + own, found.getTextContent().trim());
            properties.put("pom." + own, found.getTextContent().trim());
        }
        Node own = child(project, "properties");
        for (Node each : own == null ? List.<Node>of() : children(own)) {
            if (each instanceof Element) properties.put(each.getNodeName(), each.getTextContent().trim());
        }
        for (Node each : children(project)) {
            if (KEPT.contains(each.getNodeName())) fill(each);
            else project.removeChild(each);
        }
    }

    /** What Maven would skip when it reads a value. */
    private static void withoutInstructions(Node parent) {
        for (Node each : children(parent)) {
            if (each.getNodeType() == Node.PROCESSING_INSTRUCTION_NODE) parent.removeChild(each);
            else withoutInstructions(each);
        }
    }

    private void fill(Node node) {
        for (Node each : children(node)) fill(each);
        if (node.getNodeType() != Node.TEXT_NODE) return;
        String filled = filled(node.getNodeValue(), 0);
        if (filled.contains("${")) throw new IllegalArgumentException("a property makes up an expression");
        node.setNodeValue(filled);
    }

    private String filled(String text, int nested) {
        Matcher found = EXPRESSION.matcher(text);
        StringBuilder filled = new StringBuilder();
        while (found.find()) {
            found.appendReplacement(filled, Matcher.quoteReplacement(value(found.group(1), nested)));
            if (filled.length() > VALUE_CHARS_MAX) throw new IllegalArgumentException("a value of it is too long");
        }
        return found.appendTail(filled).toString();
    }

    private String value(String name, int nested) {
        String value = properties.get(name);
        if (value == null) {
            throw new IllegalArgumentException(
                    "${" + name + "} is not a property of it: the node's own, and variables, cannot be named");
        }
        if (nested == NESTED_MAX) throw new IllegalArgumentException("${" + name + "} names itself");
        String filled = filled(value, nested + 1);
        properties.put(name, filled);
        return filled;
    }

    private static Node child(Element parent, String name) {
        for (Node each : children(parent)) {
            if (each.getNodeName().equals(name)) return each;
        }
        return null;
    }

    private static List<Node> children(Node parent) {
        List<Node> all = new ArrayList<>();
        for (Node each = parent.getFirstChild(); each != null; each = each.getNextSibling()) all.add(each);
        return all;
    }

    /** The parser would print errors besides throwing them. */
    private static final class Silent implements ErrorHandler {
        @Override
        public void warning(SAXParseException error) {}

        @Override
        public void error(SAXParseException error) throws SAXParseException {
            throw error;
        }

        @Override
        public void fatalError(SAXParseException error) throws SAXParseException {
            throw error;
        }
    }
}
