// pathseg: brings the rectangles that are worth annotating next into this project (snakemake suggest). Press Run once.
// Those of a new round are added, but for those that lie on a region that is there: what is there stays as it is. Where
// predictions were imported, regions come without outlines of their own, which would lie there twice.
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.io.GsonTools
import qupath.lib.io.PathIO
import static qupath.lib.scripting.QP.*

// Which kind of files: 'predictions' or 'suggestions'.
def kind = 'suggestions'

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
        if (before == version) {
            println "${slide.slide}: has the ${kind} of ${experiment} already"
            return
        }
        def isRegion = { it.getPathClass()?.toString() == 'Region*' }
        def known = imageData.getHierarchy().getFlattenedObjectList(null)*.getID() as Set
        def regions = imageData.getHierarchy().getAnnotationObjects().findAll(isRegion).collect { it.getROI().getGeometry() }
        def predicted = slide.predictions.keySet().any {
            imageData.getProperty("pathseg predictions ${it}".toString()) != null
        }
        // In the file each region comes before what is in it.
        def left = false
        def count = 0
        def objects = PathIO.readObjects(file).findAll {
            if (isRegion(it)) {
                def square = it.getROI().getGeometry()
                left = known.contains(it.getID()) || regions.any { it.intersects(square) }
                count += left ? 1 : 0
                return !left
            }
            !left && !predicted && !known.contains(it.getID())
        }
        imageData.getHierarchy().addObjects(objects)
        imageData.setProperty(mark, version)
        println "${slide.slide}: ${objects.size()} objects of ${experiment}" +
            (count == 0 ? '' : ", without ${count} regions that lie on some that are there") +
            (predicted ? ', the predictions are there already' : '')
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
