package dispatch.build;

import java.io.File;
import java.util.ArrayList;
import java.util.List;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.w3c.dom.Node;
import org.xml.sax.ErrorHandler;
import org.xml.sax.SAXParseException;

/** Takes out of a pom.xml what would run code; ends with 3 when it asks for no dependency. */
final class Pom {
    private static final List<String> OUT =
            List.of("build", "profiles", "reporting", "modules", "packaging", "distributionManagement");

    private Pom() {}

    public static void main(String[] arguments) {
        try {
            DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
            factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
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
            for (String name : OUT) {
                for (Node found; (found = child(project, name)) != null; ) project.removeChild(found);
            }
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

    private static Node child(Element parent, String name) {
        List<Node> found = new ArrayList<>();
        for (Node each = parent.getFirstChild(); each != null; each = each.getNextSibling()) {
            if (each.getNodeName().equals(name)) found.add(each);
        }
        return found.isEmpty() ? null : found.get(0);
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
