// pathseg: brings the predictions of all slides into this project. Press Run once; it goes through all images.
// What is there already stays as it is: an image gets the prediction of an experiment once. What reaches into a region
// (class Region*) is left out: all in there counts as a person's.
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO
import static qupath.lib.scripting.QP.*

// Which kind of files: 'predictions' or 'suggestions'.
def kind = 'predictions'

def folder = new File(buildFilePath(PROJECT_BASE_DIR))
def record = GsonTools.getInstance().fromJson(new File(folder, 'pathseg/project.json').getText('UTF-8'), Map)
def openEntry = getProjectEntry()

for (entry in getProject().getImageList()) {
    def slide = record.slides[entry.getID()]
    if (slide == null) {
        println "${entry.getImageName()}: is not one of pathseg's slides"
        continue
    }
    def isOpen = openEntry != null && openEntry.getID() == entry.getID()
    def imageData = isOpen ? getCurrentImageData() : entry.readImageData()
    def changed = false

    // The pixel size of the slide table, where the file has none.
    def server = imageData.getServer()
    if (slide.mpp != null && !server.getPixelCalibration().hasPixelSizeMicrons()) {
        def metadata = new ImageServerMetadata.Builder(server.getMetadata()).pixelSizeMicrons(slide.mpp, slide.mpp).build()
        imageData.updateServerMetadata(metadata)
        changed = true
    }
    slide[kind].each { experiment, name ->
        def file = new File(folder, name)
        if (!file.exists()) {
            println "${slide.slide}: has no ${kind} of ${experiment}"
            return
        }
        def mark = "pathseg ${kind} ${experiment}".toString()
        def version = "${file.length()} ${file.lastModified()}".toString()
        def before = imageData.getProperty(mark)
        if (before != null) {
            println "${slide.slide}: has the ${kind} of ${experiment} already" +
                (before == version ? '' : ', of an earlier run; delete them and set the property to null to get the new ones')
            return
        }
        def known = imageData.getHierarchy().getFlattenedObjectList(null)*.getID() as Set
        def regions = imageData.getHierarchy().getAnnotationObjects().findAll {
            it.getPathClass()?.toString() == 'Region*'
        }.collect { it.getROI().getGeometry() }
        def found = PathIO.readObjects(file).findAll { !known.contains(it.getID()) }
        def objects = regions.isEmpty() ? found : found.findAll { object ->
            def outline = object.getROI().getGeometry()
            !regions.any { it.intersects(outline) }
        }
        imageData.getHierarchy().addObjects(objects)
        imageData.setProperty(mark, version)
        println "${slide.slide}: ${objects.size()} objects of ${experiment}" +
            (objects.size() == found.size() ? '' : ", without ${found.size() - objects.size()} that reach into regions")
        changed = true
    }
    if (changed) {
        entry.saveImageData(imageData)
    }
    if (!isOpen) {
        server.close()
    }
}
println 'Done.'
