// pathseg: writes the annotations of all images to the folder `annotations` of this project, a file for each slide.
// Press Run once; it goes through all images. Save the open image first, or its last changes are those on the screen.
import qupath.lib.io.GsonTools
import static qupath.lib.scripting.QP.*

def folder = new File(buildFilePath(PROJECT_BASE_DIR))
def gson = GsonTools.getInstance()
def record = gson.fromJson(new File(folder, 'pathseg/project.json').getText('UTF-8'), Map)
def openEntry = getProjectEntry()
def target = new File(folder, 'annotations')
target.mkdirs()

for (entry in getProject().getImageList()) {
    def slide = record.slides[entry.getID()]
    if (slide == null) {
        println "${entry.getImageName()}: is not one of pathseg's slides"
        continue
    }
    def isOpen = openEntry != null && openEntry.getID() == entry.getID()
    def hierarchy = isOpen ? getCurrentImageData().getHierarchy() : entry.readHierarchy()
    def annotations = hierarchy.getAnnotationObjects()
    def file = new File(target, "${slide.slide}.geojson")
    if (annotations.isEmpty() && !file.exists()) {
        continue
    }
    def content = gson.toJsonTree(GsonTools.wrapFeatureCollection(annotations)).getAsJsonObject()
    // So that it is known later which slide of which project this is.
    content.add('pathseg', gson.toJsonTree([project: record.project, slide: slide.slide]))
    // Under its name only when it is complete.
    def part = new File(target, ".${slide.slide}.part")
    part.setText(gson.toJson(content), 'UTF-8')
    java.nio.file.Files.move(part.toPath(), file.toPath(), java.nio.file.StandardCopyOption.REPLACE_EXISTING)
    println "${slide.slide}: ${annotations.size()} annotations"
}
println "Done: ${target}"
