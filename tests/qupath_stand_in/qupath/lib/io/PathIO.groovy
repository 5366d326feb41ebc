package qupath.lib.io

import groovy.json.JsonSlurper
import java.util.zip.GZIPInputStream
import qupath.lib.scripting.PathObject

class PathIO {
    static List<PathObject> readObjects(File file) {
        def stream = file.name.endsWith('.gz') ? new GZIPInputStream(file.newInputStream()) : file.newInputStream()
        stream.withStream { new JsonSlurper().parse(it, 'UTF-8').features.collect { new PathObject(it) } }
    }
}
