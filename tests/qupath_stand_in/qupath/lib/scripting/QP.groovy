package qupath.lib.scripting

import groovy.json.JsonOutput
import groovy.json.JsonSlurper

/**
 * What the project's scripts use of QuPath, in short: images of a project, and their objects, which are kept as JSON here.
 * The system property `project` names the project's folder, `open` the number of the image that is open, if one is.
 */
class QP {
    static final String PROJECT_BASE_DIR = '{%PROJECT}'
    static File folder = new File(System.getProperty('project'))
    static List<Entry> entries = new JsonSlurper().parse(new File(folder, 'project.qpproj')).images.collect { new Entry(it) }
    static Entry open = entries.find { it.getID() == System.getProperty('open') }
    static ImageData openData = open?.readImageData()

    static String buildFilePath(String... parts) {
        new File(parts.join('/').replace(PROJECT_BASE_DIR, folder.path)).path
    }
    static getProject() { [getImageList: { entries }] as Expando }
    static Entry getProjectEntry() { open }
    static ImageData getCurrentImageData() { openData }
}

class Entry {
    Map image

    Entry(Map image) { this.image = image }
    String getID() { image.entryID as String }
    String getImageName() { image.imageName }
    File data() { new File(QP.folder, "data/${getID()}/data.json") }
    ImageData readImageData() {
        new ImageData(data().exists() ? new JsonSlurper().parse(data()) : [objects: [], properties: [:], mpp: null])
    }
    Hierarchy readHierarchy() { readImageData().hierarchy }
    void saveImageData(ImageData imageData) {
        data().parentFile.mkdirs()
        data().text = JsonOutput.toJson(imageData.content)
    }
}

class ImageData {
    Map content
    Hierarchy hierarchy

    ImageData(Map content) {
        this.content = content
        hierarchy = new Hierarchy(content.objects)
    }
    Object getProperty(String key) { key in ['content', 'hierarchy'] ? this.@"$key" : content.properties[key] }
    void setProperty(String key, Object value) { content.properties[key] = value }
    Server getServer() { new Server(content) }
    Hierarchy getHierarchy() { this.@hierarchy }
    void updateServerMetadata(Map metadata) { content.mpp = metadata.mpp }
}

class Server {
    Map content

    Server(Map content) { this.content = content }
    def getMetadata() { [:] }
    def getPixelCalibration() { new Calibration(known: content.mpp != null) }
    void close() { }
}

class Calibration {
    boolean known

    boolean hasPixelSizeMicrons() { known }
}

class Hierarchy {
    List objects

    Hierarchy(List objects) { this.objects = objects }
    List<PathObject> getFlattenedObjectList(List into) { objects.collect { new PathObject(it) } }
    List<PathObject> getAnnotationObjects() {
        getFlattenedObjectList(null).findAll { it.feature.properties.objectType == 'annotation' }
    }
    boolean addObjects(Collection<PathObject> added) { objects.addAll(added*.feature) }
}
