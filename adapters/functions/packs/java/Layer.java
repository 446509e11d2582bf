package dispatch.build;

import java.io.File;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.maven.AbstractMavenLifecycleParticipant;
import org.apache.maven.MavenExecutionException;
import org.apache.maven.execution.MavenSession;
import org.apache.maven.project.DefaultDependencyResolutionRequest;
import org.apache.maven.project.MavenProject;
import org.apache.maven.project.ProjectDependenciesResolver;
import org.apache.maven.settings.Mirror;
import org.apache.maven.settings.Profile;
import org.apache.maven.settings.Repository;
import org.eclipse.aether.DefaultRepositorySystemSession;
import org.eclipse.aether.graph.Dependency;
import org.eclipse.aether.repository.AuthenticationSelector;

/**
 * Makes Maven copy what a project depends on, instead of building it: no plugin is needed, and none
 * is run. Maven finds it by maven-layer.xml; annotations it could not read in the newest classes.
 */

public final class Layer extends AbstractMavenLifecycleParticipant {
    private ProjectDependenciesResolver resolver;

    /** Whoever wrote the project, or what it depends on, is told nothing of the owner's. */
    @Override
    public void afterSessionStart(MavenSession session) throws MavenExecutionException {
        if (!(session.getRepositorySession() instanceof DefaultRepositorySystemSession repositories)) {
            throw new MavenExecutionException("the builder does not fit this Maven", (Throwable) null);
        }
        // Maven goes by the name alone, and a project calls its repositories what it likes.
        Set<String> known = ofOwner(session);
        AuthenticationSelector any = repositories.getAuthenticationSelector();
        repositories.setAuthenticationSelector(asked ->
                known.contains(place(asked.getId(), asked.getUrl())) ? any.getAuthentication(asked) : null);
        repositories.setIgnoreArtifactDescriptorRepositories(true);
        Map<String, String> properties = new TreeMap<>(repositories.getSystemProperties());
        properties.keySet().removeIf(name -> name.startsWith("env."));
        repositories.setSystemProperties(properties);
    }

    /** The repositories that the owner's settings name themselves. */
    private static Set<String> ofOwner(MavenSession session) {
        Set<String> known = new HashSet<>();
        known.add(place("central", "https://repo.maven.apache.org/maven2"));
        for (Mirror mirror : session.getSettings().getMirrors()) known.add(place(mirror.getId(), mirror.getUrl()));
        for (Profile profile : session.getSettings().getProfiles()) {
            for (Repository each : profile.getRepositories()) known.add(place(each.getId(), each.getUrl()));
        }
        return known;
    }

    /** A repository's name, and whom its URL says to ask. */
    private static String place(String id, String url) {
        try {
            URI uri = new URI(url);
            if (uri.getRawAuthority() != null) return id + " " + uri.getScheme() + "://" + uri.getRawAuthority();
        } catch (Exception noUrl) {
            // It is then known by all of its text.
        }
        return id + " " + url;
    }

    @Override
    public void afterProjectsRead(MavenSession session) throws MavenExecutionException {
        File layer = new File(System.getenv("LAYER"));
        for (MavenProject project : session.getProjects()) {
            project.getBuild().setPlugins(List.of());
            try {
                DefaultDependencyResolutionRequest request =
                        new DefaultDependencyResolutionRequest(project, session.getRepositorySession());
                for (Dependency each : resolver.resolve(request).getDependencies()) {
                    if (!each.getScope().equals("compile") && !each.getScope().equals("runtime")) continue;
                    File file = each.getArtifact().getFile();
                    String name = each.getArtifact().getGroupId() + "." + file.getName();
                    Files.copy(file.toPath(), new File(layer, name).toPath(), StandardCopyOption.REPLACE_EXISTING);
                }
            } catch (Exception error) {
                throw new MavenExecutionException(error.getMessage(), error);
            }
        }
    }
}
