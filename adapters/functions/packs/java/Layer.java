package dispatch.build;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.StandardCopyOption;
import java.util.List;
import org.apache.maven.AbstractMavenLifecycleParticipant;
import org.apache.maven.MavenExecutionException;
import org.apache.maven.execution.MavenSession;
import org.apache.maven.project.DefaultDependencyResolutionRequest;
import org.apache.maven.project.MavenProject;
import org.apache.maven.project.ProjectDependenciesResolver;
import org.eclipse.aether.graph.Dependency;

/**
 * Makes Maven copy what a project depends on, instead of building it: no plugin is needed, and none
 * is run. Maven finds it by maven-layer.xml; annotations it could not read in the newest classes.
 */

public final class Layer extends AbstractMavenLifecycleParticipant {
    private ProjectDependenciesResolver resolver;

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
