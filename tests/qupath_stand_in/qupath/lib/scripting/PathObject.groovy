package qupath.lib.scripting

import java.awt.geom.Area
import java.awt.geom.Path2D

/** An object of an image: a feature of GeoJSON. */
class PathObject {
    Map feature

    PathObject(Map feature) { this.feature = feature }
    UUID getID() { UUID.fromString(feature.id) }
    String getPathClass() { feature.properties.classification?.name }
    Roi getROI() { new Roi(feature.geometry) }
}

class Roi {
    Map geometry

    Roi(Map geometry) { this.geometry = geometry }
    Geometry getGeometry() { new Geometry(geometry.type == 'Polygon' ? [geometry.coordinates] : geometry.coordinates) }
}

/** What a geometry of JTS can, of polygons: rings by the even-odd rule. */
class Geometry {
    Area area = new Area()

    Geometry(List polygons) {
        polygons.each { rings ->
            def path = new Path2D.Double(Path2D.WIND_EVEN_ODD)
            rings.each { ring ->
                path.moveTo(ring[0][0] as double, ring[0][1] as double)
                ring.tail().each { path.lineTo(it[0] as double, it[1] as double) }
                path.closePath()
            }
            area.add(new Area(path))
        }
    }
    boolean intersects(Geometry other) {
        def both = new Area(area)
        both.intersect(other.area)
        !both.isEmpty()
    }
}
